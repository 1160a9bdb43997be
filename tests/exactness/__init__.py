"""The rule of exactness: every program here runs on both pools, and must answer alike."""
