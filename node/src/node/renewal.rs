//! Certificates and tenants, which can be renewed while the node runs: they are read again at SIGHUP and when their
//! files change. New connections get the new certificates; those that are up stay. Who has lost the right to be in a
//! room is sent away. What cannot be used is left aside, and the former goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_mesh::{Mesh, MeshTls};
use sluice_placement::Placement;
use tokio::runtime::Handle;

use super::StartError;
use super::identity::{self, UsersCertificate, placement_tls};
use crate::access::Namespaces;
use crate::config::{NamespacesConfig, NodeConfig};
use crate::rooms::Rooms;

/// How often the files are looked at. A change is taken when it has been there twice: certificate and key are two
/// files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What a running node reads again.
pub(super) struct Renewals {
    config: NodeConfig,
    users: Option<Renewal<[String; 2], UsersCertificate>>,
    mesh: Option<Renewal<MeshTls, (Mesh, Placement)>>,
    namespaces: Renewal<NamespacesConfig, (Arc<Namespaces>, Rooms, Handle)>,
}

impl Renewals {
    /// What `config` names is in use as it was read at the start.
    pub(super) fn new(
        config: &NodeConfig,
        users: Option<([String; 2], UsersCertificate)>,
        mesh: (MeshTls, Mesh, Placement),
        tenants: (Arc<Namespaces>, Rooms),
    ) -> Self {
        let (tls, mesh, placement) = mesh;
        let (namespaces, rooms) = tenants;
        let tenants = (namespaces, rooms, Handle::current());
        Self {
            config: config.clone(),
            users: users.map(|(pem, certificate)| Renewal::new("users.tls_cert", pem, certificate)),
            // Without a certificate the node made one for itself.
            mesh: config.mesh.cert.is_some().then(|| Renewal::new("mesh.cert", tls, (mesh, placement))),
            namespaces: Renewal::new("namespaces", config.namespaces.clone(), tenants),
        }
    }

    /// Reads all of them now. Blocks for as long as the files' system does.
    pub(super) fn reload(&self) {
        self.renew(true);
    }

    /// Looks at the files for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let renewals = self.clone();
            // Fails only when the node ends.
            let _ = tokio::task::spawn_blocking(move || renewals.renew(false)).await;
        }
    }

    fn renew(&self, now: bool) {
        if let Some(users) = &self.users {
            let read = || identity::users_pem(&self.config).map(Option::unwrap_or_default);
            users.renew(now, read, |pem, certificate| certificate.set(&self.config, pem));
        }
        if let Some(mesh) = &self.mesh {
            let read = || identity::mesh_tls(&self.config);
            mesh.renew(now, read, |tls, (mesh, placement)| {
                let refuse = |error: &dyn std::fmt::Display| identity::mesh_unusable(&self.config, error);
                // Both or neither.
                let use_for_placement =
                    placement.read_tls(&placement_tls(tls.clone())).map_err(|error| refuse(&error))?;
                mesh.set_tls(tls).map_err(|error| refuse(&error))?;
                use_for_placement();
                Ok(())
            });
        }
        let read = || self.config.namespaces.read_again().map_err(StartError::Config);
        self.namespaces.renew(now, read, |config, (namespaces, rooms, runtime)| {
            namespaces.set(config).map_err(|error| StartError::system("namespaces", error))?;
            let rooms = rooms.clone();
            runtime.spawn(async move { rooms.reauthorise().await });
            Ok(())
        });
    }
}

/// One of them, `T` as it is read, and `U` who uses it.
struct Renewal<T, U> {
    setting: &'static str,
    user: U,
    state: Mutex<State<T>>,
}

struct State<T> {
    used: T,
    /// What the files said when they were last looked at, or why they could not be read.
    seen: Result<T, String>,
    /// That was tried already.
    is_tried: bool,
}

impl<T: Clone + PartialEq, U> Renewal<T, U> {
    fn new(setting: &'static str, used: T, user: U) -> Self {
        let state = State { used: used.clone(), seen: Ok(used), is_tried: true };
        Self { setting, user, state: Mutex::new(state) }
    }

    /// Takes what is new into use: at once when `now`, otherwise when it has settled.
    fn renew(
        &self,
        now: bool,
        read: impl FnOnce() -> Result<T, StartError>,
        apply: impl FnOnce(&T, &U) -> Result<(), StartError>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = read().map_err(|error| error.to_string());
        let is_settled = seen == state.seen;
        if !is_settled {
            state.is_tried = false;
            state.seen.clone_from(&seen);
        }
        if !now && (!is_settled || state.is_tried) {
            return;
        }
        state.is_tried = true;
        let applied = match &seen {
            Ok(new) if *new == state.used => return,
            Ok(new) => apply(new, &self.user).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        match (applied, seen) {
            (Ok(()), Ok(new)) => {
                state.used = new;
                tracing::info!(setting = self.setting, "what was renewed is in use");
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(setting = self.setting, %error, "what was renewed cannot be used: the former stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What was taken into use, of what the files say at each look.
    fn used(looks: &[(bool, Result<&'static str, &'static str>)]) -> Vec<&'static str> {
        let used = RefCell::new(vec!["old"]);
        let renewal = Renewal::new("x", "old", ());
        for (now, said) in looks {
            let said = said.map_err(|reason| StartError::system("x", reason));
            renewal.renew(
                *now,
                || said,
                |new, ()| match *new {
                    "bad" => Err(StartError::system("x", "unusable")),
                    new => {
                        used.borrow_mut().push(new);
                        Ok(())
                    }
                },
            );
        }
        used.into_inner()
    }

    #[test]
    fn a_change_is_taken_when_it_has_settled() {
        assert_eq!(used(&[(false, Ok("old")), (false, Ok("new"))]), ["old"]);
        assert_eq!(used(&[(false, Ok("new")), (false, Ok("new")), (false, Ok("new"))]), ["old", "new"]);
        assert_eq!(used(&[(false, Ok("half")), (false, Ok("new")), (false, Ok("new"))]), ["old", "new"]);
    }

    #[test]
    fn a_signal_takes_it_at_once() {
        assert_eq!(used(&[(true, Ok("new")), (true, Ok("new"))]), ["old", "new"]);
    }

    #[test]
    fn what_cannot_be_used_or_read_is_left_aside() {
        assert_eq!(used(&[(true, Ok("bad")), (false, Ok("bad")), (true, Ok("new"))]), ["old", "new"]);
        assert_eq!(used(&[(false, Err("gone")), (false, Err("gone")), (true, Err("gone"))]), ["old"]);
        assert_eq!(used(&[(false, Err("gone")), (false, Ok("new")), (false, Ok("new"))]), ["old", "new"]);
    }
}
