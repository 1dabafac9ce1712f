//! The owner of the groups, who takes members out and in again while things fail.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::device::Phase;
use super::proxy::Proxy;
use crate::support::Person;

/// A group, and those of its members who come and go.
pub struct Group {
    pub id: String,
    pub members: Vec<Uuid>,
}

pub struct Steward {
    pub person: Person,
    pub groups: Vec<Group>,
    pub proxies: Arc<[Proxy; 2]>,
    pub seed: u64,
}

impl Steward {
    /// Until the time to rest, when everybody is in again; how many were taken out.
    pub async fn run(self, mut phase: watch::Receiver<Phase>) -> usize {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let client = Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
        let mut removals = 0;
        loop {
            let pause = Duration::from_millis(rng.random_range(300..2_000));
            let rests = phase.wait_for(|phase| *phase != Phase::Work);
            if tokio::time::timeout(pause, rests).await.is_ok() {
                return removals;
            }
            let group = self.groups.choose(&mut rng).unwrap();
            let Some(member) = group.members.choose(&mut rng) else { continue };
            let path = format!("/v1/conversations/{}/members", group.id);
            let out = (Method::DELETE, format!("{path}/{member}"), None);
            self.insist(&client, &mut rng, out).await;
            removals += 1;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
            let back = (Method::POST, path, Some(json!({ "userIds": [member] })));
            self.insist(&client, &mut rng, back).await;
        }
    }

    /// Asks any node that is up until one says that it is done. Asking twice does no harm.
    async fn insist(
        &self,
        client: &Client,
        rng: &mut StdRng,
        (method, path, body): (Method, String, Option<Value>),
    ) {
        loop {
            if let Some(node) = self.proxies[rng.random_range(0..2)].leads_to() {
                let request = client.request(method.clone(), format!("http://{node}{path}"));
                let mut request = request.bearer_auth(&self.person.token);
                if let Some(body) = &body {
                    request = request.json(body);
                }
                match request.send().await.map(|answer| answer.status()) {
                    Ok(StatusCode::OK) => return,
                    Ok(StatusCode::TOO_MANY_REQUESTS) | Err(_) => {}
                    Ok(status) => assert!(status.is_server_error(), "{method} {path}: {status}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
