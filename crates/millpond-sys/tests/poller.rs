use std::os::fd::AsFd;
use std::time::Duration;

use millpond_sys::eventfd::Bell;
use millpond_sys::poller::Poller;

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_poller_gives_the_tokens_of_what_can_be_read() {
    let poller = Poller::new().unwrap();
    let (silent, ringing) = (Bell::new().unwrap(), Bell::new().unwrap());
    poller.add(silent.as_fd(), 1).unwrap();
    poller.add(ringing.as_fd(), u64::MAX).unwrap();
    // What was in the list before is gone.
    let mut tokens = vec![99];
    poller.wait(AT_ONCE, &mut tokens).unwrap();
    assert!(tokens.is_empty());
    ringing.ring();
    // Level triggered: it is told until it is drained.
    for _ in 0..2 {
        poller.wait(None, &mut tokens).unwrap();
        assert_eq!(tokens, [u64::MAX]);
    }
    ringing.drain();
    poller.wait(AT_ONCE, &mut tokens).unwrap();
    assert!(tokens.is_empty());
}

#[test]
fn a_removed_descriptor_is_silent() {
    let poller = Poller::new().unwrap();
    let bell = Bell::new().unwrap();
    bell.ring();
    poller.add(bell.as_fd(), 1).unwrap();
    poller.remove(bell.as_fd()).unwrap();
    let mut tokens = Vec::new();
    poller.wait(AT_ONCE, &mut tokens).unwrap();
    assert!(tokens.is_empty());
    assert!(poller.remove(bell.as_fd()).is_err());
}

#[test]
fn a_closed_other_end_is_told() {
    let poller = Poller::new().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    poller.add(reader.as_fd(), 3).unwrap();
    rustix::io::write(&writer, b"x").unwrap();
    drop(writer);
    let mut tokens = Vec::new();
    poller.wait(None, &mut tokens).unwrap();
    assert_eq!(tokens, [3]);
}

#[test]
fn more_descriptors_than_one_wait_tells_are_all_told() {
    let poller = Poller::new().unwrap();
    let bells: Vec<Bell> = (0..200).map(|_| Bell::new().unwrap()).collect();
    for (token, bell) in (0..).zip(&bells) {
        poller.add(bell.as_fd(), token).unwrap();
        bell.ring();
    }
    let (mut seen, mut tokens) = (Vec::new(), Vec::new());
    while seen.len() < bells.len() {
        poller.wait(None, &mut tokens).unwrap();
        for &token in &tokens {
            bells[token as usize].drain();
        }
        seen.append(&mut tokens);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
}

#[test]
fn the_longest_timeout_is_no_error() {
    let poller = Poller::new().unwrap();
    let bell = Bell::new().unwrap();
    poller.add(bell.as_fd(), 1).unwrap();
    bell.ring();
    let mut tokens = Vec::new();
    poller.wait(Some(Duration::MAX), &mut tokens).unwrap();
    assert_eq!(tokens, [1]);
}
