//! Vaults in S3, Google Cloud Storage and Azure. Credentials, regions and endpoints come from the
//! environment, under the names that each provider's own tools use.

use crate::error::ArchiveError;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Place;
use std::sync::Arc;

/// The bucket of a URL, and the path in it.
pub(super) fn open(url: &str) -> Result<(Arc<dyn ObjectStore>, Place), ArchiveError> {
    let wrong = |why: String| ArchiveError::vault(format!("{url}: {}", super::scrub(&why)));
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| wrong("it is no URL".to_owned()))?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(wrong("it names no bucket".to_owned()));
    }
    // Fails where a provider is chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Place::parse(path.trim_matches('/')).map_err(|why| wrong(why.to_string()))?;
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" | "s3a" => Arc::new(
            AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .build()
                .map_err(|why| wrong(why.to_string()))?,
        ),
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .build()
                .map_err(|why| wrong(why.to_string()))?,
        ),
        _ => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(format!("{scheme}://{bucket}"))
                .build()
                .map_err(|why| wrong(why.to_string()))?,
        ),
    };
    Ok((store, root))
}
