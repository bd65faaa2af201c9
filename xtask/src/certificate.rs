//! A throw-away certificate authority and a server certificate signed by it, made with `openssl`.

use crate::{Outcome, process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Certificates {
    /// What a client must trust.
    pub authority: PathBuf,
    pub server_certificate: PathBuf,
    pub server_key: PathBuf,
}

/// A real chain, and not a self-signed server certificate: with `verify-full` a client must check the
/// signature and the name, and a certificate that is its own authority hides mistakes in both.
pub fn make(dir: &Path) -> Outcome<Certificates> {
    let openssl = process::need("openssl", "openssl")?;
    let openssl = |arguments: &str| {
        process::output(
            Command::new(&openssl)
                .current_dir(dir)
                .args(arguments.split_ascii_whitespace()),
        )
    };
    fs::write(
        dir.join("server.ext"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n\
         basicConstraints=critical,CA:FALSE\n\
         extendedKeyUsage=serverAuth\n",
    )
    .map_err(|error| format!("{}: {error}", dir.display()))?;

    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=whimbrel-test-authority -keyout ca.key -out ca.pem \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
    ))?;
    openssl(&format!(
        "req -new {key} -subj /CN=localhost -keyout server.key -out server.csr"
    ))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile server.ext -out server.pem",
    )?;
    Ok(Certificates {
        authority: dir.join("ca.pem"),
        server_certificate: dir.join("server.pem"),
        server_key: dir.join("server.key"),
    })
}
