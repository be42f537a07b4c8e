//! The threads of a node besides its media workers: one tokio runtime for the control plane, one for the mesh, so that
//! a burst of joins never holds up a pipe.

use std::num::NonZero;
use std::time::Duration;

use sluice_proto::ids::NodeId;
use tokio::runtime::{Builder, Handle, Runtime};

use super::StartError;
use crate::telemetry::NodeTelemetry;

/// Signalling is light: four threads carry tens of thousands of users, and more would only take cores from media.
const MAX_CONTROL_THREADS: usize = 4;

/// QUIC costs about as much for each packet as media do, so the mesh may use two cores.
const MAX_MESH_THREADS: usize = 2;

/// How long threads may take to end.
const THREADS_WITHIN: Duration = Duration::from_secs(3);

pub(super) struct Runtimes {
    runtimes: Option<(Runtime, Runtime)>,
    control: Handle,
    mesh: Handle,
}

impl Runtimes {
    pub(super) fn new(node: &NodeId, telemetry: Option<&NodeTelemetry>) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let control = runtime(&format!("{node}/control"), cores.min(MAX_CONTROL_THREADS), telemetry)?;
        let mesh = runtime(&format!("{node}/mesh"), cores.min(MAX_MESH_THREADS), telemetry)?;
        Ok(Self { control: control.handle().clone(), mesh: mesh.handle().clone(), runtimes: Some((control, mesh)) })
    }

    pub(super) fn control(&self) -> &Handle {
        &self.control
    }

    pub(super) fn mesh(&self) -> Handle {
        self.mesh.clone()
    }

    /// Drops all tasks and waits for the threads.
    pub(super) async fn end(mut self) {
        if let Some((control, mesh)) = self.runtimes.take() {
            let joined = tokio::task::spawn_blocking(move || {
                // What blocks a thread for longer, such as a media worker that is stuck, ends with the process.
                control.shutdown_timeout(THREADS_WITHIN);
                mesh.shutdown_timeout(THREADS_WITHIN);
            });
            // Fails only if a task's destructor panicked, which has been logged by then.
            let _ = joined.await;
        }
    }
}

impl Drop for Runtimes {
    /// A node that is dropped, possibly on another runtime, where waiting is forbidden.
    fn drop(&mut self) {
        if let Some((control, mesh)) = self.runtimes.take() {
            control.shutdown_background();
            mesh.shutdown_background();
        }
    }
}

fn runtime(name: &str, threads: usize, telemetry: Option<&NodeTelemetry>) -> Result<Runtime, StartError> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).enable_all();
    if let Some(telemetry) = telemetry.cloned() {
        builder.on_thread_start(move || telemetry.enter_thread()).on_thread_stop(NodeTelemetry::leave_thread);
    }
    builder.build().map_err(|error| StartError::system("a runtime's threads", error))
}
