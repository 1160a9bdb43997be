//! Tasks that the parent takes back or condemns, and workers that it dismisses.

use super::*;

/// A worker's way with one task, if there is one; what it reads of a task before it has begun it means
/// nothing if the task is withdrawn.
fn begin_and_complete(table: Table<'_>, owner: Owner, ledger: &Ledger) -> bool {
    let Some(claim) = table.claim(owner).expect("nobody scribbles") else { return false };
    if table.slot(claim.slot).begin(owner, claim.turn) {
        Ledger::note(&ledger.begun, claim.slot);
        assert_filled(table, claim);
        let _ = table.complete(claim.slot, owner, claim.turn);
    }
    true
}

/// What the parent's withdrawal decides, the worker's beginning cannot undo, and the other way round.
#[test]
fn a_withdrawn_task_is_never_begun_and_a_begun_one_never_withdrawn() {
    check_each_death(UNBOUNDED, |steps| {
        let heap = table_of(2);
        let table = heap.table();
        let ledger = Arc::new(Ledger::default());
        publish(table, 0, 0);
        let ella = {
            let (heap, ledger) = (heap.clone(), ledger.clone());
            thread::spawn(move || {
                live_for(steps, || begin_and_complete(heap.table(), ELLA, &ledger))
            })
        };
        let is_withdrawn = table.slot(0).withdraw(0);
        if is_withdrawn {
            // The slot's next task is another one.
            publish(table, 0, table.slot(0).free(0));
        }
        let died = ella.join().unwrap().is_none();
        let recovered = table.recover(ELLA);
        while begin_and_complete(table, OTTO, &ledger) {}
        let mut done = recovered.done;
        done.extend(collect(table));
        done.dedup();
        // However often the first task was claimed, what ended is begun once: the slot's last task.
        assert_eq!(Ledger::count(&ledger.begun, 0), 1, "withdrawn: {is_withdrawn}");
        assert!((done == [0]) != (recovered.lost == [0]));
        died
    });
}

/// Whoever comes first decides whether a task is complete or condemned.
#[test]
fn a_condemned_task_is_never_complete_and_ends_once() {
    check_each_death(UNBOUNDED, |steps| {
        let heap = table_of(1);
        let table = heap.table();
        publish(table, 0, 0);
        let ella = {
            let heap = heap.clone();
            thread::spawn(move || {
                live_for(steps, || {
                    let table = heap.table();
                    let claim = claim(table, ELLA)?;
                    assert!(table.slot(claim.slot).begin(ELLA, claim.turn));
                    Some(table.complete(claim.slot, ELLA, claim.turn).is_some())
                })
            })
        };
        let condemned = table.slot(0).condemn(0);
        let outcome = ella.join().unwrap();
        let recovered = table.recover(ELLA);
        let mut done = recovered.done;
        done.extend(collect(table));
        done.dedup();
        if let Some(owner) = condemned {
            assert_eq!(owner, ELLA);
            assert_eq!(recovered.lost, [0]);
            assert!(done.is_empty(), "a condemned task came back");
            assert_ne!(outcome, Some(Some(true)), "the worker took it for complete");
        } else if let Some(Some(is_complete)) = outcome {
            assert!(is_complete && done == [0] && recovered.lost.is_empty());
        }
        outcome.is_none()
    });
}

/// The refill's position may lie behind a task that is withdrawn: who steps over that tells nobody, so
/// the parent asks anew after a withdrawal.
#[test]
fn a_withdrawal_never_leaves_the_parent_asleep() {
    check(UNBOUNDED, || {
        let heap = table_of(2);
        let table = heap.table();
        let position = {
            fill(table, 0, 0);
            table.publish(0, 0).expect("the ring has room")
        };
        publish(table, 1, 0);
        let asked = table.ask_refill(position + 2);
        assert!(!asked);
        let ella = {
            let heap = heap.clone();
            thread::spawn(move || {
                let table = heap.table();
                let mut woke = false;
                for _ in 0..2 {
                    if let Some(claim) = claim(table, ELLA)
                        && claim.refill
                    {
                        woke |= table.must_wake_parent();
                    }
                }
                woke
            })
        };
        let wanted = if table.slot(1).withdraw(0) { position + 1 } else { position + 2 };
        let sleeps = !table.ask_refill(wanted) && table.parent_may_sleep().is_some();
        let woke = ella.join().unwrap();
        // Both claims are over, so that the head has passed what was waited for.
        assert!(!sleeps || woke, "the parent sleeps for ever");
    });
}

#[test]
fn a_dismissed_worker_never_sleeps() {
    check(UNBOUNDED, || {
        let heap = table_of(1);
        let ella = {
            let heap = heap.clone();
            thread::spawn(move || {
                let table = heap.table();
                table.worker_may_sleep(ELLA).map(|(bell, _)| address(bell))
            })
        };
        let woken = heap.table().dismiss(ELLA).map(address);
        let slept = ella.join().unwrap();
        assert!(heap.table().seats()[0].must_leave());
        assert!(slept.is_none() || slept == woken, "a dismissed worker sleeps for ever");
    });
}

#[test]
fn a_worker_that_is_dismissed_and_recalled_misses_no_task() {
    check(UNBOUNDED, || {
        let heap = table_of(1);
        let ella = {
            let heap = heap.clone();
            thread::spawn(move || {
                let table = heap.table();
                // As `Worker::wait`: it sleeps, or takes what is ready, or leaves.
                let slept = table.worker_may_sleep(ELLA).map(|(bell, _)| address(bell));
                let claimed = slept.is_none() && claim(table, ELLA).is_some();
                let leaves = slept.is_none() && !claimed && table.seats()[0].must_leave();
                (slept, claimed, leaves)
            })
        };
        let table = heap.table();
        let mut woken: Vec<_> = table.dismiss(ELLA).map(address).into_iter().collect();
        table.recall(ELLA);
        publish(table, 0, 0);
        woken.extend(table.wake_one().map(address));
        let (slept, claimed, leaves) = ella.join().unwrap();
        // Who was in between two looks looks again, and finds the task.
        let looks_again = slept.is_none() && !claimed && !leaves;
        assert!(claimed || leaves || looks_again || woken.contains(&slept.unwrap()));
    });
}
