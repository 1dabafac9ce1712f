//! What keeps people apart: blocks, muted conversations, reports.

use std::time::Duration;

use diesel_async::AsyncConnection;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::actors::fanout::Fanout;
use crate::clock::now;
use crate::domain::access::{Action, Relation, allows};
use crate::domain::channel::Channel;
use crate::domain::refusal::Refusal;
use crate::domain::report;
use crate::error::{Error, Result};
use crate::models::audit::{self, NewEntry};
use crate::models::pool::Pool;
use crate::models::reports::{self, NewReport, Report, Stored};
use crate::models::user_blocks::{self, Blocked, MAX_BLOCKS};
use crate::models::{Conn, conversations, messages, mutes, users};

/// Who reported as much as they may waits for so long before it is worth to try again.
const REPORT_PAUSE: Duration = Duration::from_secs(3_600);

/// What is reported.
#[derive(Debug)]
pub enum Subject {
    /// A message that the reporter can read, or could before it was taken away.
    Message(Uuid),
    User(Uuid),
}

/// Blocks, muted conversations, reports.
pub struct Safety {
    pool: Pool,
    fanout: Fanout,
}

impl Safety {
    /// What is stored of them in the database of `pool`.
    pub fn new(pool: Pool, fanout: Fanout) -> Self {
        Self { pool, fanout }
    }

    /// Blocks `other`, which holds both ways: no messages between the two, no new conversation,
    /// hold or booking, no presence, no typing. To block again is no mistake. The other one is not
    /// told.
    pub async fn block(&self, caller: &Caller, other: Uuid) -> Result<()> {
        if other == caller.user_id {
            return Err(Refusal::field("id", "must be somebody else").into());
        }
        let mut conn = self.pool.get().await?;
        users::find(&mut conn, other).await?.ok_or(Refusal::NotFound("user"))?;
        let me = caller.user_id;
        let blocked = conn
            .transaction::<_, diesel::result::Error, _>(async |conn| {
                user_blocks::block(conn, me, other).await
            })
            .await?;
        if !blocked {
            return Err(Refusal::field("id", format!("you block {MAX_BLOCKS} already")).into());
        }
        // What their sockets follow already ends, on all nodes.
        self.fanout.expel(Channel::Presence(me), other);
        self.fanout.expel(Channel::Presence(other), me);
        Ok(())
    }

    /// Ends the caller's block of `other`; that of the other way stays.
    pub async fn unblock(&self, caller: &Caller, other: Uuid) -> Result<()> {
        let (mut conn, me) = (self.pool.get().await?, caller.user_id);
        Ok(conn
            .transaction::<_, diesel::result::Error, _>(async |conn| {
                user_blocks::unblock(conn, me, other).await
            })
            .await?)
    }

    /// A page of those whom the caller blocks.
    pub async fn blocks(&self, caller: &Caller, page: Page) -> Result<(Vec<Blocked>, i64)> {
        let mut conn = self.pool.get().await?;
        Ok(user_blocks::list(&mut conn, caller.user_id, page.limit, page.offset()).await?)
    }

    /// Keeps pushes of a conversation from the caller until then; `None`: not any more.
    pub async fn mute(&self, caller: &Caller, id: Uuid, until: Option<Timestamp>) -> Result<()> {
        if until.is_some_and(|until| until <= now()) {
            return Err(Refusal::field("until", "must be in the future").into());
        }
        let mut conn = self.pool.get().await?;
        let is_member = mutes::set(&mut conn, id, caller.user_id, until).await?;
        if is_member { Ok(()) } else { Err(Refusal::NotFound("conversation").into()) }
    }

    /// Until when the caller mutes a conversation.
    pub async fn muted(&self, caller: &Caller, id: Uuid) -> Result<Option<Timestamp>> {
        let mut conn = self.pool.get().await?;
        let until = mutes::get(&mut conn, id, caller.user_id).await?;
        let until = until.ok_or(Refusal::NotFound("conversation"))?;
        Ok(until.filter(|until| *until > now()))
    }

    /// Reports a message or a user to the administrators, with a copy of what it is about.
    pub async fn report(
        &self,
        caller: &Caller,
        subject: Subject,
        reason: &str,
        details: String,
    ) -> Result<Report> {
        let reason = report::parse(reason, &details)?;
        let mut conn = self.pool.get().await?;
        let me = caller.user_id;
        let stored = conn
            .transaction::<_, Error, _>(async |conn| {
                let new = match subject {
                    Subject::Message(id) => about_message(conn, me, id, reason, details).await?,
                    Subject::User(id) => about_user(conn, me, id, reason, details).await?,
                };
                let stored = reports::insert(conn, new).await?;
                if let Stored::Done(report) = &stored {
                    note(conn, caller, "report_created", report.id, json!({})).await?;
                }
                Ok(stored)
            })
            .await?;
        match stored {
            Stored::Done(report) => Ok(*report),
            Stored::Again => Err(Refusal::AlreadyExists("report").into()),
            Stored::TooMany => Err(Refusal::RateLimited(REPORT_PAUSE).into()),
        }
    }

    /// A page of reports, for administrators; of one status, or all.
    pub async fn reports(
        &self,
        caller: &Caller,
        status: Option<&str>,
        page: Page,
    ) -> Result<(Vec<Report>, i64)> {
        may_handle(caller)?;
        let known = |status| status == "open" || report::OUTCOMES.contains(&status);
        if !status.is_none_or(known) {
            return Err(Refusal::field("status", "must be open, upheld or dismissed").into());
        }
        let mut conn = self.pool.get().await?;
        Ok(reports::list(&mut conn, status, page.limit, page.offset()).await?)
    }

    /// A report with its evidence, for administrators. That it was looked at is written down.
    pub async fn find_report(&self, caller: &Caller, id: Uuid) -> Result<(Report, Value)> {
        may_handle(caller)?;
        let mut conn = self.pool.get().await?;
        let found = reports::find(&mut conn, id).await?.ok_or(Refusal::NotFound("report"))?;
        note(&mut conn, caller, "report_viewed", id, json!({})).await?;
        Ok(found)
    }

    /// Resolves a report that is open, for administrators.
    pub async fn resolve(
        &self,
        caller: &Caller,
        id: Uuid,
        outcome: &str,
        text: Option<String>,
    ) -> Result<Report> {
        may_handle(caller)?;
        let outcome = report::parse_outcome(outcome, text.as_deref())?;
        let mut conn = self.pool.get().await?;
        let by = caller.user_id;
        conn.transaction::<_, Error, _>(async |conn| {
            let Some(report) = reports::resolve(conn, id, by, outcome, text.as_deref()).await?
            else {
                reports::find(conn, id).await?.ok_or(Refusal::NotFound("report"))?;
                return Err(Refusal::AlreadyExists("resolution").into());
            };
            note(conn, caller, "report_resolved", id, json!({ "outcome": outcome })).await?;
            Ok(report)
        })
        .await
    }
}

fn may_handle(caller: &Caller) -> Result<()> {
    match allows(caller.role, Action::ReportHandle, Relation::default()) {
        true => Ok(()),
        false => Err(Refusal::Forbidden.into()),
    }
}

/// Writes into the audit trail what was done with a report.
async fn note(
    conn: &mut Conn,
    caller: &Caller,
    event_type: &str,
    report: Uuid,
    more: Value,
) -> Result<()> {
    let entry = NewEntry {
        id: Uuid::now_v7(),
        event_type,
        user_id: Some(caller.user_id),
        ip_address: None,
        user_agent: None,
        metadata: json!({ "reportId": report, "more": more }),
    };
    Ok(audit::append(conn, &entry).await?)
}

async fn about_message(
    conn: &mut Conn,
    me: Uuid,
    id: Uuid,
    reason: &'static str,
    details: String,
) -> Result<NewReport> {
    let message = messages::of_ids(conn, &[id]).await?.pop();
    let message = message.ok_or(Refusal::NotFound("message"))?;
    if !conversations::is_member(conn, message.conversation_id, me).await? {
        return Err(Refusal::NotFound("message").into());
    }
    if message.sender_id.is_none_or(|sender| sender == me) {
        return Err(Refusal::field("messageId", "must be a message of somebody else").into());
    }
    Ok(NewReport {
        id: Uuid::now_v7(),
        reporter_id: me,
        user_id: message.sender_id,
        conversation_id: Some(message.conversation_id),
        message_id: Some(id),
        reason,
        details,
        evidence: reports::evidence(conn, &message).await?,
    })
}

async fn about_user(
    conn: &mut Conn,
    me: Uuid,
    id: Uuid,
    reason: &'static str,
    details: String,
) -> Result<NewReport> {
    let user = users::find(conn, id).await?.ok_or(Refusal::NotFound("user"))?;
    if id == me {
        return Err(Refusal::field("userId", "must be somebody else").into());
    }
    let evidence = json!({ "user": {
        "id": user.id, "firstName": user.first_name, "lastName": user.last_name,
        "userType": user.user_type,
    } });
    Ok(NewReport {
        id: Uuid::now_v7(),
        reporter_id: me,
        user_id: Some(id),
        conversation_id: None,
        message_id: None,
        reason,
        details,
        evidence,
    })
}
