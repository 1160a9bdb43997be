//! Which seats are taken.
//!
//! The table has seats for as many workers as a pool can ever have, in memory that is sparse. What walks
//! over them goes by the numbers here, which lie in memory of the parent alone: so a walk costs what the
//! workers cost that are there, and touches no seat that was never used.

/// The seats of a table: the lowest free one is given out first, so that walks end early.
#[derive(Debug)]
pub(crate) struct Seats {
    /// Of those that were ever taken.
    is_taken: Vec<bool>,
    count: usize,
}

impl Seats {
    pub(crate) fn new(count: u32) -> Self {
        Self { is_taken: Vec::new(), count: count as usize }
    }

    /// Tells whether there is no seat for another worker.
    pub(crate) fn are_all_taken(&self) -> bool {
        self.is_taken.len() == self.count && self.is_taken.iter().all(|is_taken| *is_taken)
    }

    /// Takes the first free seat. There must be one.
    pub(crate) fn take(&mut self) -> u32 {
        let seat = self.is_taken.iter().position(|is_taken| !is_taken);
        let seat = seat.unwrap_or_else(|| {
            debug_assert!(self.is_taken.len() < self.count, "all seats are taken");
            self.is_taken.push(false);
            self.is_taken.len() - 1
        });
        self.is_taken[seat] = true;
        seat as u32
    }

    /// Gives a seat back that was taken.
    pub(crate) fn give_back(&mut self, seat: u32) {
        self.is_taken[seat as usize] = false;
    }

    /// Returns one more than the highest seat that is taken; 0 if none is.
    pub(crate) fn bound(&self) -> usize {
        self.is_taken.iter().rposition(|is_taken| *is_taken).map_or(0, |seat| seat + 1)
    }

    /// Returns how many seats were ever taken: the first so many.
    pub(crate) fn ever_taken(&self) -> usize {
        self.is_taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_seat_is_taken_and_the_bound_follows() {
        let mut seats = Seats::new(3);
        assert_eq!((seats.take(), seats.take(), seats.take()), (0, 1, 2));
        assert!(seats.are_all_taken());
        assert_eq!(seats.bound(), 3);
        seats.give_back(1);
        assert!(!seats.are_all_taken());
        assert_eq!(seats.bound(), 3);
        seats.give_back(2);
        assert_eq!(seats.bound(), 1);
        assert_eq!(seats.take(), 1);
        seats.give_back(0);
        seats.give_back(1);
        assert_eq!((seats.bound(), seats.ever_taken()), (0, 3));
    }
}
