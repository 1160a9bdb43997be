//! A whole pool, step by step as the engine has it: the leader publishes and collects, the supervisor
//! settles ends, workers work, and a meddler does what the scenario is about.

use std::sync::Arc;

use millpond_table::{HeapTable, Layout, Owner, Payload, Table};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::thread;

use super::futex::Futex;
use super::ledger::{End, Ledger};
use super::parts::{ENTRY_COUNT, Parts};
use super::plan::{AHEAD_MAX, LIFE_STEPS_MAX, Plan, SEAT_COUNT, SLOT_COUNT};
use super::state::{Life, Out, State};
use super::worker::{self, Identity, RESULT};

/// Incarnations of which a schedule has fewer.
const INCARNATION_MAX: usize = 64;
/// Looks of a patrol that find the pace brisk, at most.
const BRISK_MAX: usize = 4;

pub(crate) struct Pool {
    heap: HeapTable,
    plan: Plan,
    pub(crate) futex: Futex,
    pub(crate) ledger: Ledger,
    pub(crate) parts: Parts,
    state: Mutex<State>,
    /// Ends the leader's rest, or its next one.
    news: AtomicBool,
    /// Workers that are gone, for the supervisor, and whether they died.
    gone: Mutex<Vec<(Owner, bool)>>,
    arrived: Condvar,
    patrol_is_due: Condvar,
    someone_left: Condvar,
}

/// Runs a pool until all its tasks have ended and all its threads are over, and checks the ledger. The
/// meddler runs in a thread of its own.
pub(crate) fn run(plan: Plan, meddle: impl FnOnce(&Arc<Pool>) + Send + 'static) -> Arc<Pool> {
    let layout = Layout {
        slot_count: SLOT_COUNT as u32,
        seat_count: SEAT_COUNT as u32,
        store_count: ENTRY_COUNT,
    };
    let pool = Arc::new(Pool {
        heap: HeapTable::new(layout),
        plan,
        futex: Futex::default(),
        ledger: Ledger::default(),
        parts: Parts::new(plan.uses_parts, INCARNATION_MAX),
        state: Mutex::new(State::new(&plan)),
        news: AtomicBool::new(false),
        gone: Mutex::new(Vec::new()),
        arrived: Condvar::new(),
        patrol_is_due: Condvar::new(),
        someone_left: Condvar::new(),
    });
    pool.staff(&mut pool.lock());
    let spawn = |life: fn(&Arc<Pool>)| {
        let pool = pool.clone();
        thread::spawn(move || life(&pool))
    };
    let mut others = vec![spawn(Pool::supervise)];
    if plan.spare > 0 {
        others.push(spawn(|pool| pool.patrol()));
    }
    let meddler = {
        let pool = pool.clone();
        thread::spawn(move || meddle(&pool))
    };
    pool.lead();
    meddler.join().expect("the meddler ends in order");
    pool.see_off();
    pool.stop();
    for thread in others {
        thread.join().expect("the thread ends in order");
    }
    let workers = std::mem::take(&mut pool.lock().threads);
    for worker in workers {
        worker.join().expect("the worker ends in order");
    }
    pool.ledger.check();
    assert!(!pool.table().has_done(), "a finished task was left behind");
    let words = (0..SLOT_COUNT as u32).map(|slot| pool.table().slot(slot).word());
    assert!(words.into_iter().all(|word| word.phase() == Some(millpond_table::Phase::Free)));
    pool
}

/// The leader.
impl Pool {
    pub(crate) fn table(&self) -> Table<'_> {
        self.heap.table()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn lead(&self) {
        loop {
            self.collect();
            while self.dispatch() {}
            if self.is_over() {
                return;
            }
            if !self.expect_room() {
                self.rest();
            }
        }
    }

    /// Tells whether every task has ended. What is left of a pool that was stopped, is withdrawn.
    fn is_over(&self) -> bool {
        let mut state = self.lock();
        if state.is_stopping && state.has_no_workers() {
            self.gather(&mut state);
            for slot in 0..SLOT_COUNT as u32 {
                let is_out = state.out[slot as usize].is_some_and(|out| !out.is_pending);
                if is_out {
                    assert!(self.withdraw(&mut state, slot), "a task is with nobody");
                }
            }
            state.waiting.clear();
            drop(state);
            self.collect();
            return true;
        }
        state.ended == self.plan.task_count
    }

    fn collect(&self) {
        let mut state = self.lock();
        self.gather(&mut state);
        while let Some((slot, end)) = state.pending.pop_front() {
            let out = state.out[slot as usize].take().expect("what is pending is out");
            self.ledger.note_end(out.attempt, end);
            let turn = self.table().slot(slot).free(out.turn);
            self.parts.let_go(self.table(), out.part);
            if end == End::Lost && self.plan.retries {
                self.publish(&mut state, slot, turn, out.task);
                drop(state);
                if let Some(bell) = self.table().wake_one() {
                    self.futex.wake(bell);
                }
                state = self.lock();
                continue;
            }
            state.free.push((slot, turn));
            state.ended += 1;
        }
        let is_alive = |who| state.is_alive(who);
        self.parts.give_back(self.table(), is_alive);
    }

    fn gather(&self, state: &mut State) {
        let mut found = Vec::new();
        self.table().take_done(&mut found).expect("nobody scribbles");
        for slot in found {
            self.note_done(state, slot);
        }
    }

    fn note_done(&self, state: &mut State, slot: u32) {
        let Some(out) = &mut state.out[slot as usize] else { panic!("slot {slot} is not out") };
        if out.is_pending {
            return;
        }
        let result = self.table().slot(slot).payload();
        assert_eq!(self.table().slot(slot).word().turn(), out.turn);
        assert_eq!(result.len, RESULT + out.attempt as u64, "another task's result");
        out.is_pending = true;
        state.pending.push_back((slot, End::Finished));
        let last = &mut state.serials[result.kind as usize];
        let serial = result.offset.expect("a result has a serial number");
        assert!(*last < serial, "a worker's results came out of order: {last}, {serial}");
        *last = serial;
        let owner = self.table().slot(slot).word().owner();
        self.parts.borrow(Identity { owner, incarnation: result.kind }, result);
    }

    /// Hands a task out, if there is room; false if there is none, or no task.
    fn dispatch(&self) -> bool {
        let table = self.table();
        let mut state = self.lock();
        state.claimed(table.head_position());
        if state.waiting.is_empty()
            || state.free.is_empty()
            || state.ahead.len() >= AHEAD_MAX
            || !table.has_room()
        {
            return false;
        }
        let (Some(task), Some((slot, turn))) = (state.waiting.pop_front(), state.free.pop()) else {
            return false;
        };
        self.publish(&mut state, slot, turn, task);
        if self.plan.spare > 0 && !state.is_held && thread_rng().gen_bool(0.5) {
            state.is_held = true;
            table.hold_wakes(self.plan.spare);
            self.patrol_is_due.notify_one();
        }
        let unclaimed = state.ahead.len();
        drop(state);
        if unclaimed > usize::from(table.someone_spins())
            && let Some(bell) = table.wake_another()
        {
            self.futex.wake(bell);
        }
        true
    }

    fn publish(&self, state: &mut State, slot: u32, turn: u64, task: usize) {
        let table = self.table();
        let attempt = self.ledger.note_out(task);
        let part = self.parts.choose(table);
        let len = attempt as u64;
        table.slot(slot).describe(Payload { kind: 0, len, offset: Some(part), note_len: 0 });
        let position = table.publish(slot, turn).expect("the ring has room");
        let (is_condemned, is_pending) = (false, false);
        state.out[slot as usize] =
            Some(Out { attempt, task, turn, position, part, is_condemned, is_pending });
        state.ahead.push_back(position);
    }

    /// Asks for a wake when there is room, if tasks wait for it; true if there is some already.
    fn expect_room(&self) -> bool {
        let table = self.table();
        let position = {
            let mut state = self.lock();
            state.claimed(table.head_position());
            if state.waiting.is_empty() || state.free.is_empty() {
                None
            } else {
                state.ahead.front().map(|first| first + 1)
            }
        };
        // Without a free slot, room comes with the next completion, which wakes the leader anyway.
        table.ask_refill(position.unwrap_or(u64::MAX))
    }

    fn rest(&self) {
        let table = self.table();
        let Some((bell, value)) = table.parent_may_sleep() else { return };
        if !self.news.swap(false, Ordering::SeqCst) {
            self.futex.wait(bell, value);
        }
        table.parent_awake();
    }

    fn tell_leader(&self) {
        self.news.store(true, Ordering::SeqCst);
        if self.table().must_wake_parent() {
            self.futex.wake(self.table().parent_bell());
        }
    }
}

/// The supervisor.
impl Pool {
    /// A worker's descriptor tells that it is gone.
    pub(crate) fn tell_gone(&self, owner: Owner, has_died: bool) {
        self.gone.lock().expect("no panic").push((owner, has_died));
        self.arrived.notify_one();
    }

    fn supervise(self: &Arc<Self>) {
        loop {
            let mut gone = self.gone.lock().expect("no panic");
            while gone.is_empty() {
                gone = self.arrived.wait(gone).expect("no panic");
            }
            let all = std::mem::take(&mut *gone);
            drop(gone);
            for (owner, has_died) in all {
                self.settle(owner, has_died);
            }
            let state = self.lock();
            if state.is_stopping && state.has_no_workers() {
                return;
            }
        }
    }

    fn settle(self: &Arc<Self>, owner: Owner, has_died: bool) {
        let table = self.table();
        let mut state = self.lock();
        let recovered = table.recover(owner);
        self.gather(&mut state);
        for slot in recovered.done {
            self.note_done(&mut state, slot);
        }
        for slot in recovered.lost {
            let Some(out) = &mut state.out[slot as usize] else { panic!("slot {slot} is not out") };
            if !out.is_pending {
                out.is_pending = true;
                let end = if out.is_condemned { End::Condemned } else { End::Lost };
                state.pending.push_back((slot, end));
            }
        }
        let seat = usize::from(owner.0);
        table.seats()[seat].end_leases();
        self.parts.free_unleased(table);
        state.lives[seat] = None;
        drop(state);
        self.someone_left.notify_one();
        // The engine does so at each end. Here those who end in order must owe nobody a wake.
        if has_died {
            table.wake_all(|bell| self.futex.wake(bell));
            table.ring_all(SEAT_COUNT, |bell| self.futex.wake(bell));
        }
        self.tell_leader();
        if self.plan.replaces {
            self.staff(&mut self.lock());
        }
    }

    /// Dismisses surplus workers, recalls dismissed ones, and starts what is missing.
    fn staff(self: &Arc<Self>, state: &mut State) {
        self.dismiss_and_recall(state);
        if state.is_stopping {
            return;
        }
        let staying = state.lives.iter().flatten().filter(|life| !life.is_leaving).count();
        let mut missing = state.wanted.saturating_sub(staying);
        for seat in 0..SEAT_COUNT {
            if missing == 0 || state.lives[seat].is_some() {
                continue;
            }
            missing -= 1;
            self.table().seats()[seat].reset();
            let incarnation = state.serials.len() as u32;
            state.serials.push(0);
            let me = Identity { owner: Owner(seat as u16), incarnation };
            state.lives[seat] = Some(Life { me, is_leaving: false });
            let is_mortal = (incarnation as usize) < self.plan.mortal_count;
            let steps = is_mortal.then(|| thread_rng().gen_range(0..LIFE_STEPS_MAX));
            let pool = self.clone();
            state.threads.push(thread::spawn(move || worker::live(&pool, me, steps)));
        }
    }

    fn dismiss_and_recall(&self, state: &mut State) {
        let staying = state.lives.iter().flatten().filter(|life| !life.is_leaving).count();
        let (surplus, lacking) =
            (staying.saturating_sub(state.wanted), state.wanted.saturating_sub(staying));
        let surplus_lives = state.lives.iter_mut().flatten().filter(|life| !life.is_leaving);
        for life in surplus_lives.take(surplus) {
            life.is_leaving = true;
            if let Some(bell) = self.table().dismiss(life.me.owner) {
                self.futex.wake(bell);
            }
        }
        let leaving = state.lives.iter_mut().flatten().filter(|life| life.is_leaving);
        for life in leaving.take(lacking) {
            life.is_leaving = false;
            self.table().recall(life.me.owner);
        }
    }

    /// Waits until all who were dismissed are gone, before anything else wakes them.
    fn see_off(&self) {
        let mut state = self.lock();
        while state.lives.iter().flatten().any(|life| life.is_leaving) {
            state = self.someone_left.wait(state).expect("no panic");
        }
    }

    /// Looks after the tasks whose wakes are held, until all is over.
    fn patrol(&self) {
        loop {
            let mut state = self.lock();
            while !state.is_held {
                if state.is_stopping {
                    return;
                }
                state = self.patrol_is_due.wait(state).expect("no panic");
            }
            drop(state);
            for _ in 0..thread_rng().gen_range(0..=BRISK_MAX) {
                thread::yield_now();
                self.wake(1);
            }
            let mut state = self.lock();
            state.claimed(self.table().head_position());
            state.is_held = false;
            self.table().hold_wakes(0);
            self.wake(state.ahead.len());
        }
    }

    fn wake(&self, count: usize) {
        let table = self.table();
        for _ in 0..count {
            let Some(bell) = table.wake_one() else { break };
            self.futex.wake(bell);
        }
    }
}

/// The meddler: what a user of the pool can do, from any thread.
impl Pool {
    /// Takes a slot's task back if it has not begun; with `running`, condemns it if it has.
    pub(crate) fn cancel(&self, slot: u32, running: bool) {
        let mut state = self.lock();
        let Some(out) = state.out[slot as usize].filter(|out| !out.is_pending) else { return };
        if self.withdraw(&mut state, slot) {
            drop(state);
            self.tell_leader();
        } else if running && self.table().slot(slot).condemn(out.turn).is_some() {
            let out = state.out[slot as usize].as_mut().expect("the lock is held");
            out.is_condemned = true;
        }
    }

    fn withdraw(&self, state: &mut State, slot: u32) -> bool {
        let Some(out) = &mut state.out[slot as usize] else { return false };
        if !self.table().slot(slot).withdraw(out.turn) {
            return false;
        }
        out.is_pending = true;
        let position = out.position;
        state.pending.push_back((slot, End::Withdrawn));
        state.ahead.retain(|&other| other != position);
        true
    }

    /// Wants another number of workers from now on.
    pub(crate) fn resize(self: &Arc<Self>, wanted: usize) {
        let mut state = self.lock();
        state.wanted = wanted;
        self.staff(&mut state);
    }

    /// Asks all workers to end once no task is ready, and wakes those that sleep.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.lock();
            state.is_stopping = true;
            self.table().stop();
        }
        self.table().wake_all(|bell| self.futex.wake(bell));
        self.patrol_is_due.notify_one();
    }
}
