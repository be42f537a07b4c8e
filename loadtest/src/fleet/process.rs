//! Processes of nodes, of which none must be left behind.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// Of a log, what an error shows.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 8 * 1024;

/// A node's process, and how it is started. Dropping it kills it.
#[derive(Debug)]
pub(super) struct NodeProcess {
    sluice: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    /// The admin port.
    pub(super) admin: SocketAddr,
    child: Option<Child>,
}

impl NodeProcess {
    pub(super) fn new(sluice: PathBuf, args: Vec<String>, log: PathBuf, admin: SocketAddr) -> Self {
        Self { sluice, args, log, admin, child: None }
    }

    /// Starts it. What it logs is appended to the log of its former lives.
    pub(super) fn spawn(&mut self, spawner: &Spawner) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = command(&self.sluice);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the one who started the run; nodes are ended by it, in time.
        command.process_group(0);
        let parent = std::process::id();
        // SAFETY: the closure makes system calls only, all of which are async-signal-safe, and touches no memory of
        // other threads.
        unsafe { command.pre_exec(move || prepare(parent)) };
        self.child = Some(spawner.spawn(command)?);
        Ok(())
    }

    pub(super) fn program(&self) -> &Path {
        &self.sluice
    }

    /// `None` when it was not started or has been killed.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => child.try_wait().ok().flatten(),
            None => Some(ExitStatus::default()),
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        let Some(pid) = self.pid().and_then(|pid| libc::pid_t::try_from(pid).ok()) else { return };
        // SAFETY: a system call; the process is a child that has not been waited for, so the id is no other's.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }

    /// Ends it on the spot, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let read = || {
            let mut file = File::open(&self.log)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("({}: {error})", self.log.display()));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, without the settings that this process's environment may have for it.
pub(super) fn command(sluice: &Path) -> Command {
    let mut command = Command::new(sluice);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SLUICE_")) {
        command.env_remove(name);
    }
    command
}

/// In the new process, before it is the node.
fn prepare(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: system calls without memory. A parent that died before the first of them is noticed by the second.
        let orphaned = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) != 0
                || u32::try_from(libc::getppid()) != Ok(parent)
        };
        if orphaned {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts processes. The kernel kills these with the *thread* that started them (`PR_SET_PDEATHSIG`, prctl(2)), and the
/// threads of a runtime come and go: this one lives as long as the fleet.
#[derive(Debug)]
pub(super) struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("sluice-fleet".to_owned()).spawn(move || {
            for (mut command, reply) in receiver {
                // Fails only if nobody waits any more.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self(requests))
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes has ended");
        let (reply, child) = mpsc::channel();
        self.0.send((command, reply)).map_err(|_| gone())?;
        child.recv().map_err(|_| gone())?
    }
}
