//! What a user has on other nodes, as Redis knows it: sockets, and commands that were spent.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use uuid::Uuid;

use super::connections::{ConnectionCount, UserLimits};
use crate::bus::Members;

/// The nodes that Redis knows. While it is away this node goes by its own.
pub struct OtherNodes(pub Members);

impl ConnectionCount for OtherNodes {
    fn opened(&self, user_id: Uuid, here: u32) -> BoxFuture<'static, u32> {
        let opened = self.0.opened(user_id, here);
        async move { opened.await.unwrap_or_default() }.boxed()
    }

    fn closed(&self, user_id: Uuid, here: u32) {
        let told = self.0.report(user_id, None, Some(here));
        // Nobody waits for it. One that fails is mended by the user's next socket, or in a minute.
        tokio::spawn(async move {
            let _ = told.await;
        });
    }

    fn spent(
        &self,
        user_id: Uuid,
        commands: u32,
        limits: UserLimits,
    ) -> BoxFuture<'static, Duration> {
        let members = self.0.clone();
        async move {
            let rate = (limits.per_second, limits.burst);
            members.spend(user_id, commands, rate).await.unwrap_or_default()
        }
        .boxed()
    }
}
