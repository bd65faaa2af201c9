//! TLS as libpq's `sslmode` means it, on rustls with ring.

use super::url::{RootCert, Tls, Trust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// # Errors
/// A certificate or key file cannot be used, or verification is asked for without a root certificate.
pub(super) fn connector(store: &str, tls: &Tls) -> Result<MakeRustlsConnect, StoreError> {
    let fail =
        |message: String| StoreError::new(StoreErrorKind::Terminal, Code::StoreUrl, store, message);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let root = match (&tls.root_cert, tls.trust) {
        (Some(root), _) => Some(root.clone()),
        (None, Trust::VerifyCa | Trust::VerifyFull) => Some(default_root()),
        (None, _) => None,
    };
    let verified = matches!(tls.trust, Trust::VerifyCa | Trust::VerifyFull);
    let verifier: Arc<dyn ServerCertVerifier> = match root.filter(|_| verified) {
        None => Arc::new(NoVerifier(provider.clone())),
        Some(RootCert::System) => {
            if tls.client.is_some() {
                return Err(fail("sslcert needs sslrootcert to be a file".to_owned()));
            }
            // The process may already have a provider; ours only fills the gap.
            let _ = rustls::crypto::ring::default_provider().install_default();
            return MakeRustlsConnect::with_native_certs()
                .map(|(connector, _)| connector)
                .map_err(|_| {
                    fail(
                        "the system has no root certificates; name one with sslrootcert".to_owned(),
                    )
                });
        }
        Some(RootCert::File(path)) => {
            let roots = Arc::new(read_roots(&path).map_err(fail)?);
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| fail(format!("{}: {error}", path.display())))?;
            if tls.trust == Trust::VerifyFull {
                inner
            } else {
                Arc::new(AnyNameVerifier(inner))
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = read_certs(cert).map_err(fail)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| fail(format!("sslkey {}: {error}", key.display())))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| fail(format!("sslcert {}: {error}", cert.display())))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// libpq's default file where it exists. libpq would refuse to connect without it; the system's roots are
/// the safe answer as well, and the useful one for hosted databases.
fn default_root() -> RootCert {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home.map(|home| home.join(".postgresql/root.crt")) {
        Some(path) if path.exists() => RootCert::File(path),
        _ => RootCert::System,
    }
}

fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("certificate {}: {error}", path.display()))?;
    if certs.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(certs)
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in read_certs(path)? {
        roots
            .add(cert)
            .map_err(|error| format!("sslrootcert {}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// `require` and `prefer`: encryption without proof of who answers, as libpq has it.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca`: the chain must end at the root, whatever host the certificate names.
#[derive(Debug)]
struct AnyNameVerifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyNameVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is judged last, after the chain held.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
