//! The storage port: where files of users lie, on this machine's disk or in a bucket (S3 and what
//! speaks like it). The crate `object_store` does the work; this module says which store it is,
//! checks it at the start, and puts bounds on what is held in memory.
//!
//! It knows keys and bytes. Who may read a file, and when it goes, is the services' business.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;

/// Bytes of one upload that wait in memory; also the size of the parts that a bucket is sent.
const PART: usize = 5 * 1024 * 1024;
/// Parts of one upload that are under way at once.
const PARTS_AT_ONCE: usize = 2;
/// For one request to a bucket, and for all attempts at it.
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_FOR: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 3;

/// Where files lie.
#[derive(Debug, Clone)]
pub enum Place {
    /// A directory, made if need be.
    Directory(std::path::PathBuf),
    /// A bucket.
    Bucket(Bucket),
}

/// A bucket and how it is reached.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub name: String,
    /// Before every key; empty for none.
    pub prefix: String,
    pub region: String,
    /// Of a service that is not Amazon's. Reached by plain HTTP when it says so.
    pub endpoint: Option<String>,
    /// Key id and secret. None: as the machine's role has them.
    pub keys: Option<(String, SecretString)>,
}

impl Place {
    /// Reads `s3://bucket/prefix` or `file:///directory`; `None` for anything else. Region,
    /// endpoint and keys of a bucket are set afterwards.
    pub fn parse(url: &str) -> Option<Self> {
        if let Some(directory) = url.strip_prefix("file://") {
            return directory.starts_with('/').then(|| Self::Directory(directory.into()));
        }
        let rest = url.strip_prefix("s3://")?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let named = (3..=63).contains(&name.len()) && name.bytes().all(plain);
        named.then(|| {
            Self::Bucket(Bucket {
                name: name.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
                region: "us-east-1".to_owned(),
                endpoint: None,
                keys: None,
            })
        })
    }
}

/// Why a store did not do what it was asked. The text is for the log; it names no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageFault(String);

impl From<object_store::Error> for StorageFault {
    fn from(e: object_store::Error) -> Self {
        Self(e.to_string())
    }
}

/// A store of files.
#[derive(Debug, Clone)]
pub struct Storage(Arc<dyn ObjectStore>);

/// A file as it is read.
pub type Contents = BoxStream<'static, Result<Bytes, StorageFault>>;

impl Storage {
    /// The store at `place`; makes a directory that is not there. Nothing is sent to a bucket yet.
    pub fn open(place: &Place) -> Result<Self, StorageFault> {
        match place {
            Place::Directory(directory) => Self::directory(directory),
            Place::Bucket(bucket) => Self::bucket(bucket),
        }
    }

    fn directory(directory: &FilePath) -> Result<Self, StorageFault> {
        let wrong = |e: std::io::Error| StorageFault(format!("{}: {e}", directory.display()));
        std::fs::create_dir_all(directory).map_err(wrong)?;
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(directory)?)))
    }

    fn bucket(bucket: &Bucket) -> Result<Self, StorageFault> {
        // reqwest takes the process's provider and panics without one; installed already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = bucket.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let options = ClientOptions::new()
            .with_timeout(TIMEOUT)
            .with_connect_timeout(TIMEOUT / 6)
            .with_allow_http(plain);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_retry(RetryConfig {
                max_retries: ATTEMPTS,
                retry_timeout: RETRY_FOR,
                ..RetryConfig::default()
            })
            .with_client_options(options);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some((id, secret)) = &bucket.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
        }
        let store = builder.build()?;
        Ok(match bucket.prefix.as_str() {
            "" => Self(Arc::new(store)),
            prefix => Self(Arc::new(PrefixStore::new(store, path(prefix)?))),
        })
    }

    /// Writes a small file, reads it and takes it away: what an upload will need, tried at the
    /// start. The name is new each time, since nodes may share the store.
    pub async fn check(&self) -> Result<(), StorageFault> {
        let key = format!("probe/{}", uuid::Uuid::now_v7());
        let probe = Bytes::from_static(b"probe");
        self.put(&key, probe.clone()).await?;
        let read = self.0.get(&path(&key)?).await?.bytes().await?;
        self.delete(&key).await?;
        if read == probe { Ok(()) } else { Err(StorageFault("read back otherwise".to_owned())) }
    }

    /// Stores `bytes` as `key`; what was there is replaced.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageFault> {
        self.0.put(&path(key)?, bytes.into()).await?;
        Ok(())
    }

    /// Begins a file that comes bit by bit. It is there once it is finished, whole or not at all.
    pub fn begin(&self, key: &str) -> Result<Upload, StorageFault> {
        let writer = BufWriter::with_capacity(self.0.clone(), path(key)?, PART);
        Ok(Upload(writer.with_max_concurrency(PARTS_AT_ONCE)))
    }

    /// The file `key`, bit by bit; `None` when there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Contents>, StorageFault> {
        use futures_util::{StreamExt, TryStreamExt};
        match self.0.get(&path(key)?).await {
            Ok(found) => Ok(Some(found.into_stream().map_err(StorageFault::from).boxed())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the file `key` away; that there is none is no mistake.
    pub async fn delete(&self, key: &str) -> Result<(), StorageFault> {
        match self.0.delete(&path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// A file that is being written.
pub struct Upload(BufWriter);

impl Upload {
    /// Adds `bytes`; waits while too much of the file is under way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageFault> {
        Ok(self.0.put(bytes).await?)
    }

    /// Ends the file: from now on it can be read.
    pub async fn finish(mut self) -> Result<(), StorageFault> {
        self.0.shutdown().await.map_err(|e| StorageFault(e.to_string()))
    }

    /// Gives the file up, and the parts of it that a bucket has.
    pub async fn abort(mut self) -> Result<(), StorageFault> {
        Ok(self.0.abort().await?)
    }
}

fn path(key: &str) -> Result<Path, StorageFault> {
    Path::parse(key).map_err(|e| StorageFault(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        for good in ["file:///var/lib/hub", "s3://bucket", "s3://my-bucket/some/prefix/"] {
            assert!(Place::parse(good).is_some(), "{good}");
        }
        for bad in ["", "data", "file://data", "s3://", "s3://B", "s3://a/b", "gs://bucket"] {
            assert!(Place::parse(bad).is_none(), "{bad}");
        }
    }
}
