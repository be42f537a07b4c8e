//! Compiles `placement.proto` with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=placement.proto");
    let descriptors = protox::compile(["placement.proto"], ["."])?;
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"io\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"io\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
