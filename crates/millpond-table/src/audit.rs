//! The audit: whether the table can still be what the parent and its workers have made of it.
//!
//! A peer that writes where it should not can make a task invisible: nobody claims it, or nobody tells of
//! its end, and who waits for it would wait for ever. So the parent looks now and then, from what it
//! knows by itself. See README.md, "The audit".

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::state::{Owner, Phase, SlotWord};
use crate::table::Table;
use crate::wait::ASLEEP;

/// A task that is out, as the parent knows it: its slot and turn. Its end has not been seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outstanding {
    /// Index of the slot.
    pub slot: u32,
    /// The slot's turn.
    pub turn: u64,
}

/// What the parent knows without reading the table.
#[derive(Debug)]
pub struct Known<'a, Sits> {
    /// The position that is published next.
    pub tail: u64,
    /// Whether it has asked the workers to end.
    pub is_stopping: bool,
    /// The tasks that are out, once the done stack has been taken.
    pub out: &'a [Outstanding],
    /// Tells whether a worker sits there whose death has not been settled.
    pub sits: Sits,
}

/// Remembers what could not be explained at the last look.
#[derive(Debug, Default)]
pub struct Audit {
    suspects: HashSet<(u32, SlotWord)>,
}

impl Audit {
    /// Looks once. A worker may be between any two of its steps, and acts while this reads; so what
    /// cannot be explained counts only if it stands there, unchanged, at the next look too.
    ///
    /// Only one thread of the parent may publish, recover or look at a time.
    ///
    /// # Errors
    /// If the shared memory is damaged: some task would never end.
    pub fn look<Sits>(&mut self, table: Table<'_>, known: &Known<'_, Sits>) -> Result<()>
    where
        Sits: Fn(Owner) -> bool,
    {
        // The head only moves on while this looks. So a word that is read as READY below has its cell
        // between this head and the tail.
        let head = table.head_position();
        if table.tail_position() != known.tail {
            return Err(Error::damaged("ring tail", table.tail_position(), known.tail));
        }
        if head > known.tail || known.tail - head > table.cells.len() as u64 {
            return Err(Error::damaged("ring head", head, known.tail));
        }
        if table.is_stopping() != known.is_stopping {
            return Err(Error::damaged("stop flag", table.is_stopping().into(), 0));
        }
        let waiting: HashSet<_> = (head..known.tail).map(|at| table.read_cell(at)).collect();
        let words = known.out.iter().map(|task| (task, table.slot(task.slot).word()));
        let words: Vec<_> = words.collect();
        let mut held_counts = HashMap::<Owner, u32>::new();
        for (_, word) in &words {
            if word.is_held_by(word.owner()) {
                *held_counts.entry(word.owner()).or_default() += 1;
            }
        }
        let is_explained = |task: &Outstanding, word: SlotWord| match word.phase() {
            Some(Phase::Ready) => waiting.contains(&(task.slot, task.turn)),
            Some(Phase::Taken | Phase::Begun | Phase::Condemned) => {
                // A worker holds one task at a time, and none when it sleeps.
                held_counts.get(&word.owner()) == Some(&1) && is_awake(table, known, word.owner())
            }
            Some(Phase::Done) => {
                // Between its last two steps for a task a worker holds no other.
                !held_counts.contains_key(&word.owner()) && is_awake(table, known, word.owner())
            }
            Some(Phase::Free) | None => false,
        };
        let mut suspects = HashSet::new();
        for (task, word) in words {
            if word.turn() != task.turn {
                return Err(Error::damaged("slot turn", word.turn(), task.turn));
            }
            if is_explained(task, word) {
                continue;
            }
            if self.suspects.contains(&(task.slot, word)) {
                return Err(Error::damaged("slot word", word.bits(), task.turn));
            }
            suspects.insert((task.slot, word));
        }
        self.suspects = suspects;
        Ok(())
    }

    /// Forgets what the last look has found: no task is out.
    pub fn forget(&mut self) {
        self.suspects.clear();
    }
}

fn is_awake<Sits>(table: Table<'_>, known: &Known<'_, Sits>, owner: Owner) -> bool
where
    Sits: Fn(Owner) -> bool,
{
    let seat = table.seats.get(usize::from(owner.0));
    seat.is_some_and(|seat| seat.bell.load(crate::sync::Ordering::Relaxed) != ASLEEP)
        && (known.sits)(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::sync::Ordering;
    use crate::table::HeapTable;

    const ELLA: Owner = Owner(0);
    const OTTO: Owner = Owner(1);

    struct World {
        heap: HeapTable,
        audit: Audit,
        out: Vec<Outstanding>,
        tail: u64,
    }

    impl World {
        fn new() -> Self {
            let layout = Layout { slot_count: 4, seat_count: 2, store_count: 1 };
            let heap = HeapTable::new(layout);
            let tail = heap.table().tail_position();
            Self { heap, audit: Audit::default(), out: Vec::new(), tail }
        }

        fn publish(&mut self, slot: u32) {
            self.tail = self.heap.table().publish(slot, 0).unwrap() + 1;
            self.out.push(Outstanding { slot, turn: 0 });
        }

        fn begin(&self, owner: Owner) -> u32 {
            let claim = self.heap.table().claim(owner).unwrap().unwrap();
            assert!(self.heap.table().slot(claim.slot).begin(owner, claim.turn));
            claim.slot
        }

        fn look(&mut self) -> Result<()> {
            let known =
                Known { tail: self.tail, is_stopping: false, out: &self.out, sits: |_| true };
            self.audit.look(self.heap.table(), &known)
        }

        fn is_well(&mut self) -> bool {
            (0..3).all(|_| self.look().is_ok())
        }

        /// Damage that the first look may still take for a step of a worker.
        fn is_found(&mut self) -> bool {
            self.look().is_err() || self.look().is_err()
        }
    }

    #[test]
    fn tasks_on_their_way_are_all_explained() {
        let mut world = World::new();
        assert!(world.is_well());
        (0..3).for_each(|slot| world.publish(slot));
        assert!(world.is_well());
        let claim = world.heap.table().claim(ELLA).unwrap().unwrap();
        assert!(world.is_well());
        assert!(world.heap.table().slot(claim.slot).begin(ELLA, claim.turn));
        world.begin(OTTO);
        assert!(world.is_well());
        assert!(world.heap.table().slot(1).condemn(0).is_some());
        assert!(world.is_well());
        // Done, and not yet pushed.
        assert!(world.heap.table().slot(0).finish(ELLA, 0));
        assert!(world.is_well());
    }

    #[test]
    fn a_task_that_no_cell_names_is_found() {
        let mut world = World::new();
        world.publish(0);
        world.heap.table().control.head.store(world.tail, Ordering::Relaxed);
        assert!(world.is_found());
    }

    #[test]
    fn a_tail_a_head_and_a_stop_flag_that_nobody_wrote_are_found() {
        for damage in [
            |table: Table<'_>| table.control.tail.store(0, Ordering::Relaxed),
            |table: Table<'_>| table.control.tail.store(u64::MAX, Ordering::Relaxed),
            |table: Table<'_>| table.control.head.store(u64::MAX, Ordering::Relaxed),
            |table: Table<'_>| table.control.stopping.store(1, Ordering::Relaxed),
        ] {
            let mut world = World::new();
            world.publish(0);
            damage(world.heap.table());
            assert!(world.look().is_err());
        }
    }

    #[test]
    fn a_word_that_nobody_will_change_is_found() {
        let words = [
            SlotWord::free(0).bits(),
            SlotWord::owned(Phase::Taken, OTTO, 0).bits(),
            SlotWord::owned(Phase::Begun, OTTO, 0).bits(),
            SlotWord::owned(Phase::Done, OTTO, 0).bits(),
            SlotWord::owned(Phase::Begun, Owner(7), 0).bits(),
            SlotWord::ready(1).bits(),
            0xff,
        ];
        for word in words {
            let mut world = World::new();
            world.publish(0);
            world.publish(1);
            // One worker is in a task, the other one sleeps.
            world.begin(ELLA);
            world.heap.table().seats[1].bell.store(ASLEEP, Ordering::Relaxed);
            assert!(world.is_well());
            world.heap.table().slots[1].word.store(word, Ordering::Relaxed);
            assert!(world.is_found(), "{word:#x}");
        }
    }

    #[test]
    fn a_second_task_of_a_worker_in_a_task_is_found() {
        for phase in [Phase::Taken, Phase::Begun, Phase::Done, Phase::Condemned] {
            let mut world = World::new();
            world.publish(0);
            world.publish(1);
            world.begin(ELLA);
            let word = SlotWord::owned(phase, ELLA, 0).bits();
            world.heap.table().slots[1].word.store(word, Ordering::Relaxed);
            assert!(world.is_found(), "{phase:?}");
        }
    }

    #[test]
    fn a_task_of_a_worker_that_is_gone_is_found() {
        let mut world = World::new();
        world.publish(0);
        world.begin(ELLA);
        let known =
            Known { tail: world.tail, is_stopping: false, out: &world.out, sits: |_| false };
        assert!(world.audit.look(world.heap.table(), &known).is_ok());
        assert!(world.audit.look(world.heap.table(), &known).is_err());
    }

    #[test]
    fn what_changes_between_two_looks_is_no_damage() {
        let mut world = World::new();
        world.publish(0);
        world.begin(ELLA);
        world.heap.table().seats[0].bell.store(ASLEEP, Ordering::Relaxed);
        assert!(world.look().is_ok());
        world.heap.table().seats[0].bell.store(0, Ordering::Relaxed);
        assert!(world.look().is_ok());
        world.heap.table().seats[0].bell.store(ASLEEP, Ordering::Relaxed);
        assert!(world.look().is_ok());
    }
}
