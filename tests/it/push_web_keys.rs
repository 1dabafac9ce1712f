//! Subscriptions and VAPID keys as they come in, and the RFCs' own examples, on which the trust in
//! `support/push_receiver.rs` rests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hub::outbound::EndpointPolicy;
use hub::push::{FieldProblem, SetupError, Subscription, VapidKeys};
use p256::SecretKey;
use p256::elliptic_curve::rand_core::OsRng;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use secrecy::SecretString;

use crate::support::push_receiver::{PushReceiver, decrypt, verify_vapid};

#[tokio::test]
async fn subscriptions_are_parsed_or_the_field_named() {
    let receiver = PushReceiver::start().await.unwrap();
    let good = receiver.subscription();
    receiver.stop().await;
    let problem = |endpoint: &str, p256dh: &str, auth: &str| {
        Subscription::parse(endpoint, p256dh, auth, EndpointPolicy::PublicHttps)
            .map_err(|FieldProblem { field, problem }| {
                let quotes = |value: &str| !value.is_empty() && problem.contains(value);
                assert!(!quotes(endpoint) && !quotes(p256dh) && !quotes(auth), "{problem}");
                field
            })
            .err()
    };
    let at = "https://push.example/x";
    assert_eq!(problem(at, &good.p256dh, &good.auth), None);
    let padded = |text: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(text).unwrap());
    assert_eq!(problem(at, &padded(&good.p256dh), &padded(&good.auth)), None);
    assert_eq!(problem(&format!("{at}{}", "x".repeat(2026)), &good.p256dh, &good.auth), None);

    for endpoint in [
        "",
        "push.example",
        "http://push.example/x",
        "ftp://push.example/x",
        "file:///etc/passwd",
        "https://user:secret@push.example/x",
        &format!("{at}{}", "x".repeat(2027)),
    ] {
        assert_eq!(problem(endpoint, &good.p256dh, &good.auth), Some("endpoint"), "{endpoint}");
    }
    let point = URL_SAFE_NO_PAD.decode(&good.p256dh).unwrap();
    let mut off_curve = point.clone();
    off_curve[64] ^= 1;
    let mut beyond_field = vec![0xff; 65];
    beyond_field[0] = 4;
    let compressed = SecretKey::random(&mut OsRng).public_key().to_encoded_point(true);
    for wrong in [
        &off_curve[..],
        &beyond_field,
        &point[..64],
        &[0; 65],
        &[4; 65],
        compressed.as_bytes(),
        &[],
    ] {
        let wrong = URL_SAFE_NO_PAD.encode(wrong);
        assert_eq!(problem(at, &wrong, &good.auth), Some("p256dh"), "{wrong}");
    }
    assert_eq!(problem(at, "n/o+t url", &good.auth), Some("p256dh"));
    for wrong in ["", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([0; 17])] {
        assert_eq!(problem(at, &good.p256dh, wrong), Some("auth"), "{wrong}");
    }
}

#[test]
fn vapid_keys_load_in_every_common_form() {
    let secret = SecretKey::random(&mut OsRng);
    let point = secret.public_key().to_encoded_point(false);
    let expected = URL_SAFE_NO_PAD.encode(point.as_bytes());
    let load = |text: &str| VapidKeys::load(&SecretString::from(text));

    let raw = secret.to_bytes();
    let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap().to_string();
    let with_parameters = format!(
        "-----BEGIN EC PARAMETERS-----\n{}\n-----END EC PARAMETERS-----\n{sec1}",
        STANDARD.encode([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07])
    );
    // to_sec1_pem leaves the curve out; what OpenSSL writes has it.
    let mut der = vec![0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend(&raw);
    der.extend([0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    der.extend([0xa1, 0x44, 0x03, 0x42, 0x00]);
    der.extend(point.as_bytes());
    let openssl = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(&der)
    );
    for text in [
        URL_SAFE_NO_PAD.encode(raw),
        format!(" {}\n", URL_SAFE.encode(raw)),
        secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        openssl.clone(),
        with_parameters.replace(&sec1, &openssl),
    ] {
        assert_eq!(load(&text).unwrap().public_key(), expected, "{text}");
    }

    // 32 bytes too, but on secp256k1 (1.3.132.0.10).
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend(&raw);
    der.extend([0xa0, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a]);
    let other_curve = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(&der)
    );
    let truncated = URL_SAFE_NO_PAD.encode(&raw[..31]);
    let zero = URL_SAFE_NO_PAD.encode([0; 32]);
    let beyond_order = URL_SAFE_NO_PAD.encode([0xff; 32]);
    let public = secret.public_key().to_string();
    for text in ["", "???", &truncated, &zero, &beyond_order, &other_curve, &sec1, &public] {
        assert!(matches!(load(text), Err(SetupError::VapidKey)), "{text}");
    }
}

#[test]
fn generated_pairs_differ_and_match() {
    let (one, two) = (VapidKeys::generate().unwrap(), VapidKeys::generate().unwrap());
    assert_ne!(one.public_key, two.public_key);
    assert_eq!(VapidKeys::load(&one.private_key).unwrap().public_key(), one.public_key);
    assert_eq!(URL_SAFE_NO_PAD.decode(&one.public_key).unwrap().len(), 65);
}

/// RFC 8291 §5 and appendix A: the receiver the tests rest on is right.
#[test]
fn the_receiver_decrypts_the_rfcs_example() {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let private = decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
    let auth = decode("BTBZMqHH6r4Tts7J_aSIgg");
    let mut body = decode(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml\
         mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT\
         pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
    );
    let key = SecretKey::from_slice(&private).unwrap();
    let plaintext = decrypt(&key, &auth, &body).unwrap();
    assert_eq!(plaintext, b"When I grow up, I want to be a watermelon");
    *body.last_mut().unwrap() ^= 1;
    assert!(decrypt(&key, &auth, &body).is_err());
}

/// RFC 8292 §2.4: the receiver's VAPID check is right, in the accepting and the refusing.
#[test]
fn the_receiver_verifies_the_rfcs_vapid_example() {
    let header = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let origin = "https://push.example.net";
    let (claims, _) = verify_vapid(header, origin, at(1_453_523_768 - 3600)).unwrap();
    assert_eq!(claims["sub"], "mailto:push@example.com");
    assert!(verify_vapid(header, origin, at(1_453_523_768)).is_err(), "expired");
    assert!(verify_vapid(header, origin, at(1_453_000_000)).is_err(), "valid for too long");
    assert!(verify_vapid(header, "https://push.example.net:8443", at(1_453_523_000)).is_err());
    let forged = header.replace("eyJhdWQi", "eyJBdWQi");
    assert!(verify_vapid(&forged, origin, at(1_453_523_000)).is_err());
}
