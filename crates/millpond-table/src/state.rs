//! The slot's state word: who has the task, and how far it is.
//!
//! ```text
//!  63                      24 23           8 7      0
//! +--------------------------+--------------+--------+
//! | turn (40 bits)           | owner (16)   | phase  |
//! +--------------------------+--------------+--------+
//! ```
//!
//! * **phase** tells how far the task in the slot is; see [`Phase`].
//! * **owner** is the seat of the worker that claimed the task, in `TAKEN`, `BEGUN`, `DONE` and
//!   `CONDEMNED`; it is zero in `FREE` and `READY`. A claim is one compare-exchange that writes phase
//!   and owner together, so there is no moment at which a killed worker leaves a task that nobody
//!   owns.
//! * **turn** counts how often the slot was freed. A reader that saw an older turn cannot mistake
//!   the slot's next task for the one it meant: its compare-exchange fails.

/// The seat number of a worker, 0 to 1 023.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner(pub u16);

/// How far the task in a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// The slot holds no task; only the parent touches it.
    Free = 0,
    /// The parent has filled the slot; any worker may claim it.
    Ready = 1,
    /// A worker has claimed the task and has run nothing of it. If the worker dies now the task goes
    /// back to the head of the ring.
    Taken = 2,
    /// The worker has begun: from here on user code may have run, so the task dies with its worker.
    Begun = 3,
    /// The result lies in the slot; only the parent touches it from here to `Free`.
    Done = 4,
    /// The parent stops the worker on account of this task: it is past its deadline, or cancelled. The
    /// worker can no longer complete it, and takes no other.
    Condemned = 5,
}

/// A decoded state word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotWord(u64);

const OWNER_SHIFT: u32 = 8;
const TURN_SHIFT: u32 = 24;
const TURN_MASK: u64 = (1 << 40) - 1;

impl SlotWord {
    /// Reads a word as it lies in shared memory; every `u64` is a valid argument.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the word as it lies in shared memory.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Makes the word of an unowned slot in its `turn`.
    #[must_use]
    pub const fn free(turn: u64) -> Self {
        Self((turn & TURN_MASK) << TURN_SHIFT)
    }

    /// Makes the word of a filled slot in its `turn`.
    #[must_use]
    pub const fn ready(turn: u64) -> Self {
        Self(Self::free(turn).0 | Phase::Ready as u64)
    }

    /// Makes the word of a slot owned by `owner`; `phase` is none of `Free` and `Ready`.
    #[must_use]
    pub const fn owned(phase: Phase, owner: Owner, turn: u64) -> Self {
        Self(Self::free(turn).0 | ((owner.0 as u64) << OWNER_SHIFT) | phase as u64)
    }

    /// Returns the phase, or `None` if a peer wrote a phase that does not exist.
    #[must_use]
    pub const fn phase(self) -> Option<Phase> {
        match self.0 & 0xff {
            0 => Some(Phase::Free),
            1 => Some(Phase::Ready),
            2 => Some(Phase::Taken),
            3 => Some(Phase::Begun),
            4 => Some(Phase::Done),
            5 => Some(Phase::Condemned),
            _ => None,
        }
    }

    /// Returns the owner; it means nothing in `Free` and `Ready`.
    #[must_use]
    pub const fn owner(self) -> Owner {
        Owner(((self.0 >> OWNER_SHIFT) & 0xffff) as u16)
    }

    /// Returns the turn, in range `0..2^40`.
    #[must_use]
    pub const fn turn(self) -> u64 {
        self.0 >> TURN_SHIFT
    }

    /// Tells whether this is the word of a task that `owner` has claimed and not finished.
    #[must_use]
    pub fn is_held_by(self, owner: Owner) -> bool {
        self.owner() == owner
            && matches!(self.phase(), Some(Phase::Taken | Phase::Begun | Phase::Condemned))
    }
}

/// Returns the turn that follows `turn`.
pub(crate) const fn next_turn(turn: u64) -> u64 {
    (turn + 1) & TURN_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_gives_back_what_was_put_in(turn in 0u64..(1 << 40), owner in any::<u16>()) {
            for phase in [Phase::Taken, Phase::Begun, Phase::Done, Phase::Condemned] {
                let word = SlotWord::owned(phase, Owner(owner), turn);
                prop_assert_eq!(word.phase(), Some(phase));
                prop_assert_eq!(word.owner(), Owner(owner));
                prop_assert_eq!(word.turn(), turn);
            }
            prop_assert_eq!(SlotWord::ready(turn).turn(), turn);
            prop_assert_eq!(SlotWord::ready(turn).phase(), Some(Phase::Ready));
        }

        #[test]
        fn every_bit_pattern_decodes_without_panic(bits in any::<u64>()) {
            let word = SlotWord::from_bits(bits);
            let _ = (word.phase(), word.owner(), word.turn(), word.is_held_by(Owner(1)));
            prop_assert_eq!(word.bits(), bits);
        }
    }

    /// Where a field may spill into its neighbour, lose its top bit or wrap.
    const EDGE_TURNS: [u64; 6] = [0, 1, 0x55_5555_5555, 1 << 39, TURN_MASK - 1, TURN_MASK];
    const PHASES: [Phase; 6] =
        [Phase::Free, Phase::Ready, Phase::Taken, Phase::Begun, Phase::Done, Phase::Condemned];

    /// No field of a word looks at another's bits, so that all of two fields by the edges of the third
    /// stand for all words.
    #[test]
    fn every_phase_byte_by_every_owner_decodes_to_its_fields_and_a_phase_or_none() {
        for turn in EDGE_TURNS {
            for owner in 0..=u16::MAX {
                for byte in 0..=u8::MAX {
                    // By the picture above, not by the constants under test.
                    let bits = turn * (1 << 24) + u64::from(owner) * (1 << 8) + u64::from(byte);
                    let word = SlotWord::from_bits(bits);
                    assert_eq!((word.bits(), word.owner().0, word.turn()), (bits, owner, turn));
                    let phase = PHASES.get(usize::from(byte)).copied();
                    assert_eq!(word.phase(), phase, "{bits:#x}");
                    let is_held = (2..=3).contains(&byte) || byte == 5;
                    assert_eq!(word.is_held_by(Owner(owner)), is_held, "{bits:#x}");
                    assert!(!word.is_held_by(Owner(owner ^ 1)) && !word.is_held_by(Owner(!owner)));
                }
            }
        }
    }

    #[test]
    fn every_word_that_we_make_reads_as_it_was_made_and_no_two_are_the_same() {
        for turn in EDGE_TURNS {
            // What is beyond a turn's bits must not reach the fields beside it.
            for beyond in [0, 1 << 40, u64::MAX << 40] {
                assert_eq!(SlotWord::free(turn | beyond).bits(), turn << 24);
                assert_eq!(SlotWord::ready(turn | beyond).bits(), turn << 24 | 1);
            }
            let mut seen = std::collections::HashSet::new();
            for unowned in [SlotWord::free(turn), SlotWord::ready(turn)] {
                assert!(seen.insert(unowned.bits()));
            }
            for owner in (0..=u16::MAX).map(Owner) {
                for phase in &PHASES[2..] {
                    let word = SlotWord::owned(*phase, owner, turn);
                    let read = (word.phase(), word.owner(), word.turn());
                    assert_eq!(read, (Some(*phase), owner, turn));
                    assert_eq!(SlotWord::owned(*phase, owner, turn | 1 << 40), word);
                    assert!(seen.insert(word.bits()), "{word:?}");
                }
            }
            let next = next_turn(turn);
            assert!(next <= TURN_MASK && next != turn && next_turn(next) != turn);
        }
    }

    #[test]
    fn the_last_turn_is_followed_by_the_first() {
        assert_eq!(next_turn(TURN_MASK), 0);
    }
}
