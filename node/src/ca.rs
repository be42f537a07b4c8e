//! `sluice ca`: the cluster's certificate authority and its nodes' certificates as files.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_mesh::ca::{CaError, ClusterCa};
use sluice_proto::ids::NodeId;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a certificate was not made. Nothing was written then that was not there before.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file is there already: overwriting a CA would lock out every node that it has certified.
    #[error("{0} exists already; it is not overwritten")]
    Exists(PathBuf),
    /// The system refused.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// The CA cannot be read or used.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Makes a cluster's CA: `ca.pem` for every node, `ca.key` to be kept where certificates are issued.
///
/// # Errors
/// [`CaFileError::Exists`] when there is one.
pub fn init(dir: &Path, cluster: &str, days: u32) -> Result<[PathBuf; 2], CaFileError> {
    let paths = [dir.join("ca.pem"), dir.join("ca.key")];
    refuse_existing(&paths)?;
    let ca = ClusterCa::create(cluster, DAY * days)?;
    std::fs::create_dir_all(dir).map_err(|error| CaFileError::Io(dir.to_owned(), error))?;
    write(&paths[1], ca.key_pem(), Secrecy::Private)?;
    write(&paths[0], ca.cert_pem(), Secrecy::Public)?;
    Ok(paths)
}

/// Issues a node's certificate, `<node>.pem` and `<node>.key`, from the CA in `dir`.
///
/// # Errors
/// [`CaFileError::Io`] when there is no CA, [`CaFileError::Exists`] when the node has a certificate.
pub fn issue(dir: &Path, node: &NodeId, addresses: &[IpAddr], days: u32) -> Result<[PathBuf; 2], CaFileError> {
    let paths = [dir.join(format!("{node}.pem")), dir.join(format!("{node}.key"))];
    refuse_existing(&paths)?;
    let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| CaFileError::Io(path, error));
    let ca = ClusterCa::from_pem(&read(dir.join("ca.pem"))?, &read(dir.join("ca.key"))?)?;
    let certificate = ca.issue(node, addresses, DAY * days)?;
    write(&paths[1], &certificate.key_pem, Secrecy::Private)?;
    write(&paths[0], &certificate.cert_pem, Secrecy::Public)?;
    Ok(paths)
}

fn refuse_existing(paths: &[PathBuf]) -> Result<(), CaFileError> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(CaFileError::Exists(path.clone())),
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Secrecy {
    Public,
    Private,
}

/// Writes a file that must not be there; a private one is never readable by others, not for a moment.
fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), CaFileError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match secrecy {
            Secrecy::Public => 0o644,
            Secrecy::Private => 0o600,
        },
    );
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| CaFileError::Io(path.to_owned(), error))
}
