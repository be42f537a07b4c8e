//! Dense keys of what a worker owns; ids are for the borders.

use slotmap::new_key_type;

new_key_type! {
    /// A router within its worker.
    pub struct RouterKey;
    /// A producer within its worker, one of a user or one at the end of a route.
    pub struct ProducerKey;
    /// A consumer within its worker.
    pub struct ConsumerKey;
    /// The beginning of a route within its worker.
    pub struct PipeConsumerKey;
    /// A data producer within its worker, one of a user, one at the end of a route, or one without a client.
    pub struct DataProducerKey;
    /// A data consumer within its worker.
    pub struct DataConsumerKey;
}
