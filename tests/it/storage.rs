//! The store of files: a directory, a bucket at somebody else's S3, and a start without either.

use bytes::Bytes;
use futures_util::TryStreamExt;
use hub::storage::{Bucket, Place, Storage};
use serde_json::json;

use crate::attachments::{Room, jpeg};
use crate::support::TestHub;
use crate::support::moto::{BUCKET, Moto};
use crate::support::postgres;
use crate::support::process::Process;

async fn read(storage: &Storage, key: &str) -> Option<Vec<u8>> {
    let chunks: Vec<Bytes> = storage.get(key).await.unwrap()?.try_collect().await.unwrap();
    Some(chunks.concat())
}

/// What every store must do.
async fn keeps_files(storage: &Storage) {
    storage.check().await.unwrap();
    storage.put("attachments/ab/small", Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(read(storage, "attachments/ab/small").await.unwrap(), b"small");

    // Larger than what waits in memory, so that a bucket gets it in parts.
    let whole: Vec<u8> = (0..12_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let mut upload = storage.begin("attachments/ab/large").unwrap();
    for chunk in whole.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert!(storage.get("attachments/ab/large").await.unwrap().is_none(), "before its end");
    upload.finish().await.unwrap();
    assert!(read(storage, "attachments/ab/large").await.unwrap() == whole);

    let mut upload = storage.begin("attachments/ab/given-up").unwrap();
    for chunk in whole.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    upload.abort().await.unwrap();
    assert!(storage.get("attachments/ab/given-up").await.unwrap().is_none());

    for _ in 0..2 {
        storage.delete("attachments/ab/small").await.unwrap();
    }
    assert!(storage.get("attachments/ab/small").await.unwrap().is_none());
    assert!(storage.get("../../etc/hostname").await.is_err());
}

#[tokio::test]
async fn a_directory_keeps_files() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(&Place::Directory(dir.path().join("made/now"))).unwrap();
    keeps_files(&storage).await;
}

fn bucket_at(moto: &Moto, name: &str) -> Bucket {
    Bucket {
        name: name.to_owned(),
        prefix: "of/the/hub".to_owned(),
        region: "ap-south-1".to_owned(),
        endpoint: Some(moto.endpoint.clone()),
        keys: Some(("id".to_owned(), "secret".to_owned().into())),
    }
}

#[tokio::test]
async fn a_bucket_keeps_files() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(moto) = Moto::start().await else { return };
    let storage = Storage::open(&Place::Bucket(bucket_at(&moto, BUCKET))).unwrap();
    keeps_files(&storage).await;
    // The server itself tells of it, under the prefix.
    storage.put("attachments/cd/seen", Bytes::from_static(b"seen")).await.unwrap();
    let all = reqwest::get(format!("{}/{BUCKET}?list-type=2", moto.endpoint)).await.unwrap();
    assert!(all.text().await.unwrap().contains("of/the/hub/attachments/cd/seen"));
    let missing = Storage::open(&Place::Bucket(bucket_at(&moto, "nobodys-bucket"))).unwrap();
    assert!(missing.check().await.is_err());
}

#[tokio::test]
async fn a_hub_over_a_bucket_sends_and_takes_files() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(moto) = Moto::start().await else { return };
    let endpoint = moto.endpoint.clone();
    let hub = TestHub::start_with(move |c| {
        c.storage.url = Some(format!("s3://{BUCKET}/hub"));
        c.storage.s3_endpoint = Some(endpoint);
        c.storage.s3_access_key_id = Some("id".to_owned());
        c.storage.s3_secret_access_key = Some("secret".to_owned().into());
    })
    .await;
    let room = Room::open(hub).await;
    let file = room.upload(&room.a, "image/jpeg", jpeg(40, 30)).await.data(201);
    let (status, bytes) = room.download(&room.a, &file["id"], "").await;
    assert_eq!(
        (status, bytes.len()),
        (200, usize::try_from(file["bytes"].as_i64().unwrap()).unwrap())
    );
    assert_eq!(file["contentType"], json!("image/jpeg"));
    room.hub.stop().await;
}

#[tokio::test]
async fn a_store_that_can_not_be_used_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let url = postgres::migrated();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "no directory").unwrap();
    let wrong = [format!("file://{}", file.display()), "s3://UPPER".into(), "data/files".into()];
    for storage in wrong {
        let env = [
            ("DATABASE_URL", url.as_str()),
            ("JWT_SECRET", "a secret of the tests, of more than 32 bytes"),
            ("STORAGE_URL", &storage),
        ];
        let mut hub = Process::start(&dir.path().join("data"), &["serve"], &env);
        let (status, said) = hub.ends().await;
        assert_eq!(status.code(), Some(1), "{storage}: {said}");
        assert!(said.contains("STORAGE_URL"), "{storage}: {said}");
    }
}
