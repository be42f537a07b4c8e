//! Processor time and memory of threads and processes.

use std::time::Duration;

/// User and system time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the thread's clock cannot be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// User and system time of a process, all threads, since its start; in steps of the kernel's tick (10 ms).
pub(crate) fn process_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The command's name is in parentheses and may contain anything; what follows is numbers, utime the 12th of them.
    let (_, rest) = stat.rsplit_once(')').expect("a line of /proc/PID/stat");
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// Resident memory of a process.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    // SAFETY: sysconf has no preconditions.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64
}

/// Lets everybody else go before the calling thread, as if it were on another machine.
pub(crate) fn lower_priority() {
    // SAFETY: setpriority takes numbers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    assert_eq!(result, 0, "the thread's priority cannot be lowered");
}
