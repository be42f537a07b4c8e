//! Logs and traces: what a node tells its operator, and the W3C trace context by which one join is followed over nodes.
//!
//! Each node of a process has a subscriber of its own, set on the threads of its runtimes, so that the spans of
//! `sluice dev`'s nodes leave under the name of the node that made them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::IsTerminal;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Dispatch;
use tracing::dispatcher::DefaultGuard;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, NodeConfig, TelemetryConfig};

const TRACEPARENT: &str = "traceparent";

/// Installs the process's subscriber: log lines on standard error. Whatever does not run on a node's own threads logs
/// through it. A second call changes nothing.
pub(crate) fn install_logging(config: &TelemetryConfig) {
    let subscriber = Registry::default().with(log_layer(config));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The subscriber of one node's threads: log lines, and spans exported over OTLP under the node's name.
#[derive(Clone)]
pub(crate) struct NodeTelemetry {
    dispatch: Dispatch,
    provider: SdkTracerProvider,
}

impl NodeTelemetry {
    /// Telemetry that exports spans, or `None` when no endpoint is configured: the process's subscriber is enough then.
    ///
    /// Called on a runtime, which carries the exporter's connection.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub(crate) fn new(config: &NodeConfig) -> Result<Option<Self>, opentelemetry_otlp::ExporterBuildError> {
        let Some(endpoint) = &config.telemetry.otlp_endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str()).build()?;
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(config)).build();
        Ok(Some(Self::with_provider(&config.telemetry, provider)))
    }

    /// Telemetry that gives its spans to `provider`.
    pub(crate) fn with_provider(config: &TelemetryConfig, provider: SdkTracerProvider) -> Self {
        // Which spans there are does not depend on what is logged, and those of libraries are no part of the story.
        let ours = Targets::new().with_target("sluice", LevelFilter::INFO);
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("sluice")).with_filter(ours);
        let subscriber = Registry::default().with(log_layer(config)).with(spans);
        Self { dispatch: Dispatch::new(subscriber), provider }
    }

    /// Makes this the subscriber of the calling thread until [`Self::leave_thread`].
    pub(crate) fn enter_thread(&self) {
        let guard = tracing::dispatcher::set_default(&self.dispatch);
        THREAD_GUARD.with(|slot| slot.replace(Some(guard)));
    }

    /// Gives the calling thread its former subscriber back.
    pub(crate) fn leave_thread() {
        THREAD_GUARD.with(|slot| slot.replace(None));
    }

    /// Exports what is still waiting. Blocks for as long as the exporter's time-out.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

thread_local! {
    static THREAD_GUARD: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// The W3C `traceparent` of the current span, to be sent with what it causes elsewhere; `None` when it is not traced.
pub(crate) fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the span that a W3C `traceparent` names. To be called before the span is entered. A value
/// that is not a `traceparent` changes nothing: it came over the network, and a trace is never worth a failure.
pub(crate) fn set_parent(span: &tracing::Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    // Fails only without an exporting subscriber, when there is nothing to parent.
    let _ = span.set_parent(parent);
}

fn resource(config: &NodeConfig) -> Resource {
    Resource::builder()
        .with_service_name("sluice")
        .with_attributes([
            KeyValue::new("service.instance.id", config.id.to_string()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.namespace", config.cluster.name.to_string()),
            KeyValue::new("cloud.region", config.region.to_string()),
        ])
        .build()
}

fn log_layer<S>(config: &TelemetryConfig) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::new(config.level.as_str());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    }
}
