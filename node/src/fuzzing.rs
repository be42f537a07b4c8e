//! What fuzz targets need of what is private. Nothing else is to use it.

/// What a client's text is answered with if it is not worth a room's attention.
pub fn protoo_refusal(text: &str) -> Option<String> {
    crate::signalling::protoo::refusal(text)
}
