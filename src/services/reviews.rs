//! Reviews of completed sessions.

use std::time::Duration;

use diesel_async::AsyncConnection;
use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::actors::fanout::Fanout;
use crate::domain::access::{Action, Relation, allows};
use crate::domain::booking::Status;
use crate::domain::refusal::Refusal;
use crate::domain::{notify, review};
use crate::error::{Error, Result};
use crate::models::Part;
use crate::models::notices::{self, Addressed};
use crate::models::pool::Pool;
use crate::models::practitioners::{self, Practice};
use crate::models::reviews::{self, NewReview, Review, ReviewChange, Whose};
use crate::models::violation::Violation;
use crate::models::{Conn, bookings, users};

/// What a seeker says of a session.
#[derive(Debug)]
pub struct Opinion {
    pub booking_id: Uuid,
    /// 1 to 5.
    pub rating: i32,
    pub comment: Option<String>,
    /// Whether nobody is to be told who wrote it.
    pub is_anonymous: bool,
}

/// Reviews.
pub struct Reviews {
    pool: Pool,
    fanout: Fanout,
    push_window: Duration,
}

impl Reviews {
    /// Reviews in the database of `pool`; pushes about them wait for `push_window`.
    pub fn new(pool: Pool, fanout: Fanout, push_window: Duration) -> Self {
        Self { pool, fanout, push_window }
    }

    /// Reviews a completed session of the caller, once; the practitioner is told.
    pub async fn create(&self, caller: &Caller, opinion: &Opinion) -> Result<Review> {
        if !allows(caller.role, Action::ReviewCreate, Relation::default()) {
            return Err(Refusal::Forbidden.into());
        }
        review::check(Some(opinion.rating), opinion.comment.as_deref())?;
        let mut conn = self.pool.get().await?;
        let id = Uuid::now_v7();
        let events = conn
            .transaction::<_, Error, _>(async |conn| {
                let reviewee_id = reviewable(conn, caller, opinion.booking_id).await?;
                let comment = opinion.comment.as_deref().and_then(written);
                let new = NewReview {
                    id,
                    booking_id: opinion.booking_id,
                    reviewer_id: caller.user_id,
                    reviewee_id,
                    rating: opinion.rating,
                    comment,
                    is_anonymous: opinion.is_anonymous,
                };
                reviews::insert(conn, &new).await.map_err(refuse_second)?;
                let author = match opinion.is_anonymous {
                    true => None,
                    false => users::find(conn, caller.user_id).await?.map(|user| user.first_name),
                };
                let notice = notify::review(author.as_deref(), id, opinion.rating);
                let told = vec![Addressed::new(reviewee_id, notice)];
                Ok(notices::tell(conn, self.push_window, Vec::new(), told).await?)
            })
            .await?;
        self.fanout.publish_stored(&events);
        found(reviews::find(&mut conn, id).await?)
    }

    /// Changes a review of the caller, within the days that it can be changed. An empty comment
    /// takes the comment away.
    pub async fn update(
        &self,
        caller: &Caller,
        id: Uuid,
        rating: Option<i32>,
        comment: Option<String>,
    ) -> Result<Review> {
        review::check(rating, comment.as_deref())?;
        let mut conn = self.pool.get().await?;
        conn.transaction::<_, Error, _>(async |conn| {
            let locked = reviews::lock(conn, id).await?;
            let (row, now) = locked.ok_or(Refusal::NotFound("review"))?;
            permit(caller, Action::ReviewUpdate, &row)?;
            review::may_edit(row.created_at, now)?;
            let change = ReviewChange { rating, comment: comment.as_deref().map(written) };
            reviews::update(conn, id, &change).await?;
            found(reviews::find(conn, id).await?)
        })
        .await
    }

    /// Takes a review away: its author's at any time, any for an administrator.
    pub async fn remove(&self, caller: &Caller, id: Uuid) -> Result<()> {
        let mut conn = self.pool.get().await?;
        conn.transaction::<_, Error, _>(async |conn| {
            let locked = reviews::lock(conn, id).await?;
            let (row, _) = locked.ok_or(Refusal::NotFound("review"))?;
            permit(caller, Action::ReviewDelete, &row)?;
            Ok(reviews::remove(conn, id).await?)
        })
        .await
    }

    /// A part of a practice's reviews, with the practice and how many have each number of stars.
    pub async fn of_practice(
        &self,
        practitioner_id: Uuid,
        part: Part,
        limit: i64,
    ) -> Result<(Practice, Vec<Review>, Vec<(i32, i64)>)> {
        let mut conn = self.pool.get().await?;
        let practice = practitioners::find(&mut conn, practitioner_id).await?;
        let practice = practice.ok_or(Refusal::NotFound("practitioner"))?;
        let about = Whose::About(practice.user_id);
        let rows = reviews::list(&mut conn, about, part, limit).await?;
        let stars = reviews::stars(&mut conn, practice.user_id).await?;
        Ok((practice, rows, stars))
    }

    /// A page of the reviews that the caller wrote, and how many there are.
    pub async fn of_caller(&self, caller: &Caller, page: Page) -> Result<(Vec<Review>, i64)> {
        let mut conn = self.pool.get().await?;
        let by = Whose::By(caller.user_id);
        let total = reviews::count(&mut conn, by).await?;
        let part = Part::Offset(page.offset());
        Ok((reviews::list(&mut conn, by, part, page.limit).await?, total))
    }
}

/// The user of the practice that the caller's booking was with, if it was completed. A completed
/// booking stays completed, so nothing need be locked.
async fn reviewable(conn: &mut Conn, caller: &Caller, booking_id: Uuid) -> Result<Uuid> {
    let row = bookings::find(conn, booking_id).await?;
    let own = row.filter(|row| row.seeker_id == caller.user_id);
    let row = own.ok_or(Refusal::NotFound("booking"))?;
    match Status::parse(&row.status) {
        Some(Status::Completed) => Ok(row.practitioner_user_id),
        // Holds are not bookings yet.
        Some(Status::Held | Status::Released | Status::Lapsed) | None => {
            Err(Refusal::NotFound("booking").into())
        }
        Some(other) => {
            let (state, version) = (other.as_str(), row.version);
            Err(Refusal::InvalidTransition { state, version }.into())
        }
    }
}

fn refuse_second(error: diesel::result::Error) -> Error {
    super::refuse_violation(error, |v| {
        (v == Violation::ReviewOfBooking).then_some(Refusal::AlreadyExists("review"))
    })
}

/// A comment without the white space around it; none when nothing is left.
fn written(comment: &str) -> Option<&str> {
    Some(comment.trim()).filter(|text| !text.is_empty())
}

/// Reviews are public: who may not touch one is forbidden, not told that there is none.
fn permit(caller: &Caller, action: Action, row: &Review) -> Result<()> {
    let relation = Relation { owner: row.reviewer_id == caller.user_id, practitioner: false };
    if allows(caller.role, action, relation) { Ok(()) } else { Err(Refusal::Forbidden.into()) }
}

fn found(row: Option<Review>) -> Result<Review> {
    row.ok_or_else(|| Error::Fault("a review is gone".to_owned()))
}
