//! The system calls that a command does without.

use std::{collections::BTreeMap, io, sync::OnceLock};

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::Reach;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

const AF_UNIX: u64 = libc::AF_UNIX as u64;
/// By it a program asks which addresses this machine has; getaddrinfo does.
const AF_NETLINK: u64 = libc::AF_NETLINK as u64;
const AF_INET: u64 = libc::AF_INET as u64;
const AF_INET6: u64 = libc::AF_INET6 as u64;
const IPPROTO_TCP: u64 = libc::IPPROTO_TCP as u64;
/// The bits of a socket's type that are no flags.
const SOCK_TYPE_MASK: u64 = 0xf;
/// Sending with it connects, past Landlock's rules for connecting.
const MSG_FASTOPEN: u64 = libc::MSG_FASTOPEN as u64;

/// Ways into other processes of the same user, this program among them, and around the rules for sockets.
const NEVER: [i64; 5] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_io_uring_setup,
];

/// Requests of ioctl that type into a terminal, whose shell would run it once this program has ended: a command keeps
/// the terminal that this program was started from.
#[allow(clippy::unnecessary_cast, reason = "with musl they are of another type")]
const TYPING: [u64; 2] = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64];

/// The second calling convention of x86-64 has the same architecture and numbers of its own.
#[cfg(target_arch = "x86_64")]
mod x32 {
    /// What marks its numbers.
    pub(super) const BIT: i64 = 0x4000_0000;
    /// The calls here that have another number there: ioctl, sendmsg, ptrace, sendmmsg, process_vm_readv,
    /// process_vm_writev.
    pub(super) const OTHERS: [(i64, i64); 6] = [
        (libc::SYS_ioctl, 514),
        (libc::SYS_sendmsg, 518),
        (libc::SYS_ptrace, 521),
        (libc::SYS_sendmmsg, 538),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
    ];
}

/// Takes these calls away from the calling thread. They fail with "permission denied" from now on; programs of another
/// architecture, such as 32-bit ones, are killed.
pub(super) fn apply(reach: Reach) -> io::Result<()> {
    static WITHOUT: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    static WITH: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    let (made, inet) = match reach {
        Reach::Nothing => (&WITHOUT, false),
        Reach::Proxy(_) => (&WITH, true),
    };
    let program =
        made.get_or_init(|| program(inet)).as_ref().map_err(|error| io::Error::other(error.clone()))?;
    apply_filter(program).map_err(io::Error::other)
}

fn program(inet: bool) -> Result<BpfProgram, String> {
    let said = |error: seccompiler::BackendError| error.to_string();
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(said)?;
    let mut rules = Rules::new();
    for call in NEVER {
        rules.insert(call, Vec::new());
    }
    rules.insert(libc::SYS_socket, if inet { tcp_only() } else { no_inet() }.map_err(said)?);
    for (call, argument) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        let connects = condition(argument, SeccompCmpOp::MaskedEq(MSG_FASTOPEN), MSG_FASTOPEN);
        let rule = connects.and_then(|connects| SeccompRule::new(vec![connects]));
        rules.insert(call, vec![rule.map_err(said)?]);
    }
    rules.insert(libc::SYS_ioctl, typing().map_err(said)?);
    add_x32(&mut rules);
    let denied = SeccompAction::Errno(Errno::ACCESS.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(said)?;
    filter.try_into().map_err(said)
}

#[cfg(target_arch = "x86_64")]
fn add_x32(rules: &mut Rules) {
    let numbered = |call: i64| {
        let other = x32::OTHERS.iter().find(|(own, _)| *own == call);
        x32::BIT | other.map_or(call, |(_, number)| *number)
    };
    let again: Rules = rules.iter().map(|(call, rules)| (numbered(*call), rules.clone())).collect();
    rules.extend(again);
}

#[cfg(not(target_arch = "x86_64"))]
fn add_x32(_: &mut Rules) {}

type Built<T> = Result<T, seccompiler::BackendError>;

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Dword, operator, value)
}

fn family_is_none_of(families: &[u64]) -> Built<Vec<SeccompCondition>> {
    families.iter().map(|family| condition(0, SeccompCmpOp::Ne, *family)).collect()
}

/// What matches is denied. The kernel looks at the lower half of a request only, as these rules do.
fn typing() -> Built<Vec<SeccompRule>> {
    let requests = TYPING.iter().map(|request| condition(1, SeccompCmpOp::Eq, *request));
    requests.map(|condition| SeccompRule::new(vec![condition?])).collect()
}

/// What matches is denied: every family but the two that reach nothing outside this machine.
fn no_inet() -> Built<Vec<SeccompRule>> {
    Ok(vec![SeccompRule::new(family_is_none_of(&[AF_UNIX, AF_NETLINK])?)?])
}

/// What matches is denied: other families, and of the internet's all but plain TCP, which is what Landlock's rules and
/// the proxy know. So name servers are out of reach, and the proxy resolves names.
fn tcp_only() -> Built<Vec<SeccompRule>> {
    let mut rules = vec![SeccompRule::new(family_is_none_of(&[AF_UNIX, AF_NETLINK, AF_INET, AF_INET6])?)?];
    let stream = libc::SOCK_STREAM as u64;
    for kind in (0..=SOCK_TYPE_MASK).filter(|kind| *kind != stream) {
        let mut conditions = family_is_none_of(&[AF_UNIX, AF_NETLINK])?;
        conditions.push(condition(1, SeccompCmpOp::MaskedEq(SOCK_TYPE_MASK), kind)?);
        rules.push(SeccompRule::new(conditions)?);
    }
    let mut conditions = family_is_none_of(&[AF_UNIX, AF_NETLINK])?;
    conditions.push(condition(2, SeccompCmpOp::Ne, 0)?);
    conditions.push(condition(2, SeccompCmpOp::Ne, IPPROTO_TCP)?);
    rules.push(SeccompRule::new(conditions)?);
    Ok(rules)
}
