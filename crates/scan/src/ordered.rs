//! Work done by several threads, told in order.
//!
//! Threads take pieces of work in order; what each piece tells is passed on as if one thread had done them
//! one after another. So the output is the same for any number of threads, nothing is sorted afterwards,
//! and memory is bounded: a thread that is ahead of the one being told waits.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What is told at once: who is told is woken once for it.
const TOLD_AT_ONCE: usize = 32;
/// How often one piece may tell before it is its turn.
const AHEAD_TOLD: usize = 2;
/// Pieces begun or finished before it is their turn. With [`TOLD_AT_ONCE`] and [`AHEAD_TOLD`]: 16 × 2 × 32 =
/// 1,024 findings of some kilobytes each wait at most, and what each thread gathers.
const AHEAD_PIECES: usize = 16;

/// Does `count` pieces of work on `threads` threads. `work` does one piece with its thread's own `state`
/// and tells of it until told to stop; `tell` hears everything in the order of the pieces, and may stop
/// the whole.
pub(crate) fn in_order<T: Send, S>(
    count: usize,
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut dyn FnMut(T) -> ControlFlow<()>) + Sync,
    mut tell: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    if threads.min(count) <= 1 {
        return in_turn(count, state(), work, tell);
    }
    std::thread::scope(|scope| {
        let (turns, pieces) = sync_channel::<Receiver<Vec<T>>>(AHEAD_PIECES);
        let next = Mutex::new((0, turns));
        // The next piece, with the channel that it tells through. Taking a number and queueing for the
        // turn are one step, so that turns come in the order of the pieces.
        let take = |next: &Mutex<(usize, SyncSender<Receiver<Vec<T>>>)>| {
            let mut next = next.lock().ok()?;
            let piece = next.0;
            if piece >= count {
                return None;
            }
            let (told, turn) = sync_channel(AHEAD_TOLD);
            next.1.send(turn).ok()?;
            next.0 += 1;
            Some((piece, told))
        };
        let next = std::sync::Arc::new(next);
        for _ in 0..threads.clamp(1, count.max(1)) {
            let (next, state, work) = (std::sync::Arc::clone(&next), &state, &work);
            scope.spawn(move || {
                let mut state = state();
                while let Some((piece, told)) = take(&next) {
                    let mut gathered = Vec::new();
                    work(&mut state, piece, &mut |item| {
                        gathered.push(item);
                        if gathered.len() < TOLD_AT_ONCE {
                            return ControlFlow::Continue(());
                        }
                        match told.send(std::mem::take(&mut gathered)) {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(()),
                        }
                    });
                    // If nobody listens any more, nobody misses it.
                    let _ = told.send(gathered);
                }
            });
        }
        // The queue of turns ends when the last thread drops its share.
        drop(next);
        'told: for (piece, turn) in pieces.iter().enumerate() {
            for item in turn.into_iter().flatten() {
                if tell(piece, item).is_break() {
                    break 'told;
                }
            }
        }
        // Here the receivers go, and whoever still tells is told to stop.
        drop(pieces);
    });
}

/// The same by the caller's own thread: nobody has to be woken for what is told.
fn in_turn<T, S>(
    count: usize,
    mut state: S,
    work: impl Fn(&mut S, usize, &mut dyn FnMut(T) -> ControlFlow<()>),
    mut tell: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    let mut heard_enough = ControlFlow::Continue(());
    for piece in 0..count {
        work(&mut state, piece, &mut |item| {
            if heard_enough.is_continue() {
                heard_enough = tell(piece, item);
            }
            heard_enough
        });
        if heard_enough.is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_the_same_for_any_number_of_threads() {
        let run = |threads| {
            let mut heard = Vec::new();
            in_order(
                100,
                threads,
                || 0u64,
                |seed, piece, tell| {
                    for part in 0..piece % 7 * 40 {
                        *seed = seed.wrapping_mul(31).wrapping_add(part as u64);
                        if seed.is_multiple_of(5) {
                            std::thread::yield_now();
                        }
                        if tell((piece, part)).is_break() {
                            return;
                        }
                    }
                },
                |piece, told| {
                    assert_eq!(piece, told.0);
                    heard.push(told);
                    ControlFlow::Continue(())
                },
            );
            heard
        };
        let alone = run(1);
        assert!(alone.is_sorted() && alone.len() > 10_000);
        assert_eq!(run(2), alone);
        assert_eq!(run(5), alone);
    }

    #[test]
    fn who_hears_enough_ends_it() {
        for threads in [1, 3] {
            let mut heard = 0;
            in_order(
                1000,
                threads,
                || (),
                |(), _, tell| while tell(()).is_continue() {},
                |_, ()| {
                    heard += 1;
                    if heard == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            assert_eq!(heard, 10);
        }
    }

    #[test]
    fn no_work_is_done_at_once() {
        in_order(
            0,
            4,
            || (),
            |(), _, _: &mut dyn FnMut(()) -> ControlFlow<()>| (),
            |_, ()| ControlFlow::Continue(()),
        );
    }
}
