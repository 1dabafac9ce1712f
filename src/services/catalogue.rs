//! The platform's catalogue of services.

use uuid::Uuid;

use super::Page;
use super::auth::Caller;
use crate::domain::access::{Action, Relation, allows};
use crate::domain::money::{AMOUNT_RULE, CURRENCY_RULE, is_amount, is_currency};
use crate::domain::refusal::{Problems, Refusal};
use crate::error::Result;
use crate::models::catalogue::{self, Service};
use crate::models::pool::Pool;
use crate::models::violation::Violation;

/// The catalogue.
pub struct Catalogue {
    pool: Pool,
}

impl Catalogue {
    /// The catalogue in the database of `pool`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// A page of the active services by name, and how many there are.
    pub async fn list(&self, page: Page) -> Result<(Vec<Service>, i64)> {
        let mut conn = self.pool.get().await?;
        Ok(catalogue::list_services(&mut conn, page.limit, page.offset()).await?)
    }

    /// Adds a service; administrators only.
    pub async fn add(&self, caller: &Caller, mut service: Service) -> Result<Service> {
        if !allows(caller.role, Action::CatalogueUpdate, Relation::default()) {
            return Err(Refusal::Forbidden.into());
        }
        let mut problems = Problems::default();
        problems.length("name", &service.name, 1, 255);
        let sane = (1..=1440).contains(&service.duration_minutes);
        problems.require(sane, "durationMinutes", "must be 1 to 1440");
        let price = service.base_price.is_none_or(is_amount);
        problems.require(price, "basePrice.amount", AMOUNT_RULE);
        let known = is_currency(&service.currency);
        problems.require(known, "basePrice.currency", CURRENCY_RULE);
        problems.into_result()?;
        service.id = Uuid::now_v7();
        let mut conn = self.pool.get().await?;
        catalogue::insert_service(&mut conn, &service).await.map_err(|e| {
            super::refuse_violation(e, |v| {
                (v == Violation::ServiceCategory)
                    .then(|| Refusal::field("categoryId", "there is no such category"))
            })
        })?;
        Ok(service)
    }
}
