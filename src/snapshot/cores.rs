//! The same work for many items, on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a piece of work for each item; returns what came of them, in their order. Each core has a worker of its own, which may keep what it needs from
/// one item to the next. A panic in one is a panic of the caller.
///
/// # Errors
/// The first error of any of them; items that were not begun then are left.
pub(crate) fn on_all_cores<T, R, E, W>(items: &[T], worker: impl Fn() -> W + Sync) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
    W: FnMut(&T) -> Result<R, E>,
{
    let next = AtomicUsize::new(0);
    let run = || -> Result<Vec<(usize, R)>, E> {
        let mut work = worker();
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            done.push((at, work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(items.len());
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let own = run();
        let joined = others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(own, |all, some| {
            let (mut all, some) = (all?, some?);
            all.extend(some);
            Ok(all)
        })
    })?;
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items_and_an_error_ends_all() {
        let items: Vec<u32> = (0..1_000).collect();
        let doubled = on_all_cores(&items, || |item: &u32| Ok::<_, String>(item * 2)).expect("no error");
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let failed = on_all_cores(&items, || |item: &u32| if *item == 500 { Err(*item) } else { Ok(()) });
        assert_eq!(failed, Err(500));
        assert_eq!(on_all_cores(&[], || |item: &u32| Ok::<_, String>(*item)), Ok(Vec::new()));
    }
}
