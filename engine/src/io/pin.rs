//! The pin: a classic-BPF program that picks the shard of a connection by its source address.
//!
//! In:   the listeners' group, all of it listening, in shard order.
//! Out:  every source address lands on the shard that `shard_of` names, reconnects too.
//! Law:  a hint only: where it is missing or wrong, the registry moves the router's table.
//! Not:  which router speaks (`registry`).

#![expect(unsafe_code, reason = "one setsockopt that no safe crate offers")]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD,
    BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, sock_filter, sock_fprog,
};

/// Knuth's multiplicative constant, 2^32 / golden ratio: neighbouring addresses spread evenly.
const SPREAD: u32 = 0x9E37_79B1;
/// Where the network header begins, to a program on a socket (SKF_NET_OFF).
const NETWORK_HEADER: u32 = 0xFFF0_0000;
/// Offset of the source address in an IPv4 header (RFC 791 section 3.1).
const SOURCE_V4: u32 = 12;
/// Offset of the source address in an IPv6 header (RFC 8200 section 3).
const SOURCE_V6: u32 = 8;

/// The shard, of `shards`, that the program picks for this source.
///
/// An IPv4 peer of a dual-stack listener counts by its four bytes: the program sees its packet.
pub fn shard_of(source: IpAddr, shards: usize) -> usize {
    let mut words = [0_u32; 4];
    let words: &[u32] = match source.to_canonical() {
        IpAddr::V4(address) => {
            words[0] = u32::from_be_bytes(address.octets());
            &words[..1]
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
                *word = u32::from_be_bytes(*bytes);
            }
            &words
        }
    };
    let mixed = words.iter().fold(0_u32, |mixed, word| mixed.wrapping_mul(SPREAD) ^ word);
    let mixed = mixed.wrapping_mul(SPREAD);
    (mixed ^ (mixed >> 16)) as usize % shards.max(1)
}

/// Attaches the program to the group that `listener` belongs to; valid for all its members,
/// those that join later too. Call it after all of them listen: earlier, listen() of this one
/// fails with EADDRINUSE as soon as another of the group is bound.
///
/// Errors: that of setsockopt; EINVAL when the socket was bound without SO_REUSEPORT.
pub fn attach(listener: BorrowedFd<'_>, shards: usize) -> io::Result<()> {
    let mut program = program(u32::try_from(shards).unwrap_or(u32::MAX).max(1));
    let length = u16::try_from(program.len()).expect("the program has some twenty instructions");
    let described = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `described` and the program it points to live until the call returns, the length
    // given is that of `described`, and the kernel copies both before it returns.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const described).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The program; `shard_of` is its model. An index beyond the group, and the `u32::MAX` for what
/// is neither IPv4 nor IPv6, leave the choice to the kernel.
fn program(shards: u32) -> Vec<sock_filter> {
    let load_byte = |offset| step(BPF_LD | BPF_B | BPF_ABS, NETWORK_HEADER + offset);
    let load_word = |offset| step(BPF_LD | BPF_W | BPF_ABS, NETWORK_HEADER + offset);
    let multiply = || step(BPF_ALU | BPF_MUL | BPF_K, SPREAD);
    let keep = || step(BPF_MISC | BPF_TAX, 0);
    let exclusive_or = || step(BPF_ALU | BPF_XOR | BPF_X, 0);
    let shift_right = |bits| step(BPF_ALU | BPF_RSH | BPF_K, bits);
    let six = [
        load_word(SOURCE_V6),
        multiply(),
        keep(),
        load_word(SOURCE_V6 + 4),
        exclusive_or(),
        multiply(),
        keep(),
        load_word(SOURCE_V6 + 8),
        exclusive_or(),
        multiply(),
        keep(),
        load_word(SOURCE_V6 + 12),
        exclusive_or(),
        // Over the loading of the IPv4 address.
        step(BPF_JMP | BPF_JA, 1),
    ];
    let six_length = u8::try_from(six.len()).expect("fourteen instructions");
    let mut program = vec![
        // The version is the upper half of the first byte of either header.
        load_byte(0),
        shift_right(4),
        branch(4, six_length + 2, 0),
        branch(6, 1, 0),
        step(BPF_RET | BPF_K, u32::MAX),
    ];
    program.extend(six);
    program.push(load_word(SOURCE_V4));
    program.extend([multiply(), keep(), shift_right(16), exclusive_or()]);
    program.push(step(BPF_ALU | BPF_MOD | BPF_K, shards));
    program.push(step(BPF_RET | BPF_A, 0));
    program
}

fn step(code: u32, operand: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: operand }
}

/// Compares the accumulator and skips `equal` or `different` instructions.
fn branch(value: u32, equal: u8, different: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt: equal, jf: different, k: value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_addresses_spread_evenly() {
        for shards in [2, 3, 4, 8] {
            let mut counts = vec![0; shards];
            for source in 0..1024_u32 {
                let source = IpAddr::from((0x0A00_0000 + source).to_be_bytes());
                counts[shard_of(source, shards)] += 1;
            }
            let fair = 1024 / shards;
            let uneven = counts.iter().any(|count: &usize| count.abs_diff(fair) > fair / 5);
            assert!(!uneven, "{counts:?}");
        }
    }

    /// 2,000 routers, numbered as people number them: side by side, one per subnet, by interface.
    #[test]
    fn no_shard_has_many_more_routers_than_another() {
        let v4 = |base: u32, step: u32| {
            let source = move |index: u32| IpAddr::from((base + index * step).to_be_bytes());
            (0..2_000).map(source).collect::<Vec<_>>()
        };
        let v6 = |shift: u32, last: u128| {
            let base = 0x2001_0db8_u128 << 96;
            let source = |index: u128| IpAddr::from((base | index << shift | last).to_be_bytes());
            (0..2_000).map(source).collect::<Vec<_>>()
        };
        let fleets = [
            ("v4 addresses in a row", v4(0x0A00_0000, 1)),
            ("v4 links of two", v4(0x0A00_0000, 2)),
            ("v4 subnets", v4(0x0A00_0001, 256)),
            ("v6 addresses in a row", v6(0, 0)),
            ("v6 subnets", v6(64, 1)),
            ("v6 sites", v6(80, 1)),
        ];
        for (name, sources) in fleets {
            for shards in [2, 3, 4, 8, 16] {
                let mut counts = vec![0_usize; shards];
                sources.iter().for_each(|source| counts[shard_of(*source, shards)] += 1);
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(most * 10 <= least * 13, "{name}, {shards} shards: {counts:?}");
            }
        }
    }

    #[test]
    fn a_mapped_address_counts_as_the_ipv4_address_it_is() {
        for last in 0..=255_u8 {
            let plain = IpAddr::from([192, 0, 2, last]);
            let mapped = format!("::ffff:192.0.2.{last}").parse().unwrap();
            assert_eq!(shard_of(plain, 7), shard_of(mapped, 7));
        }
    }

    #[test]
    fn the_program_branches_to_where_each_address_is_loaded() {
        let program = program(3);
        let load_v4 = 2 + 1 + usize::from(program[2].jt);
        assert_eq!(program[load_v4].k, NETWORK_HEADER + SOURCE_V4);
        let load_v6 = 3 + 1 + usize::from(program[3].jt);
        assert_eq!(program[load_v6].k, NETWORK_HEADER + SOURCE_V6);
        assert_eq!(program[3 + 1 + usize::from(program[3].jf)].k, u32::MAX);
        let jump = load_v4 - 1;
        assert_eq!(jump + 1 + program[jump].k as usize, load_v4 + 1);
    }
}
