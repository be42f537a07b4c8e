//! Media: what happens to a packet between the socket it came in by and the sockets it leaves by.

pub mod messages;
