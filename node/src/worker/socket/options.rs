//! Options of a socket that only Linux has, and no library names.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

/// asm-generic/socket.h; libc has only the places in its answer.
const SO_MEMINFO: c_int = 55;

/// asm-generic/sockios.h, where a `timespec` has 64-bit fields.
const SIOCGSTAMPNS: libc::Ioctl = 0x8907;

/// Lets datagrams be fragmented where a path is narrow, for packets above its MTU would be lost there for ever. IPv4:
/// by any router on the way, and what ICMP says of the path, which anybody can forge, is ignored. IPv6: by this end,
/// which has only ICMP to know it from.
pub(super) fn allow_fragments(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

/// Datagrams that the kernel has thrown away since the socket was made, because its receive buffer was full.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&info) as socklen_t;
    // SAFETY: `info` has room for `len` bytes, of which the kernel writes at most as many.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, info.as_mut_ptr().cast::<c_void>(), &mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info.last().copied().unwrap_or(0).into())
}

/// How long the datagram that was received last had waited. The first call, which has nothing to tell, has the kernel
/// stamp what comes from then on. Stamps as control messages would need more room than quinn-udp has for those, and
/// push the size of merged ones out.
pub(super) fn waited(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    let mut stamp = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut now = stamp;
    // SAFETY: both calls are given a timespec to write to.
    let result = unsafe {
        match libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut stamp) {
            0 => libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now),
            error => error,
        }
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let since_epoch = |time: libc::timespec| Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    Ok(since_epoch(now).saturating_sub(since_epoch(stamp)))
}

pub(super) fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as socklen_t;
    // SAFETY: `value` is an int, as long as `len` says, and outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast::<c_void>(), len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
