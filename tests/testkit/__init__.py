"""What every test stands on: ledger, census, watchdog, oracle, and fresh interpreters."""
