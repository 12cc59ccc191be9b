//! Work for every core: what is computed router by router, and by no router from another's.
//!
//! In:   how many routers, and what to compute of each.
//! Out:  the results, in the order of the routers.
//! Law:  the result does not depend on how many cores there are.
//! Not:  what is computed (`scenario/react`, benches).

/// Computes something for each of `count` routers, on every core.
pub fn share_out<T: Send>(count: usize, compute: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    let compute = &compute;
    let part = |first: usize| (first..count.min(first + share)).map(compute).collect::<Vec<T>>();
    std::thread::scope(|scope| {
        let parts = (0..count).step_by(share).map(|first| scope.spawn(move || part(first)));
        let parts: Vec<_> = parts.collect();
        let joined = parts.into_iter().map(|part| part.join().expect("a router can be computed"));
        joined.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_routers() {
        for count in [0, 1, 2, 7, 100] {
            let expected: Vec<usize> = (0..count).map(|router| router * 3).collect();
            assert_eq!(share_out(count, |router| router * 3), expected);
        }
    }
}
