//! `/v1/services`: the platform's catalogue.

use actix_web::web;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::body::PageQuery;
use super::envelope::{Envelope, Reply};
use super::error::ApiResult;
use super::idempotency::Once;
use super::query::Query;
use crate::models::catalogue::Service;
use crate::services::catalogue::Catalogue;

/// An amount that a client names.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// Minor units: 150000 INR is 1,500 rupees.
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "INR")]
    pub currency: String,
}

/// A service of the catalogue.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    id: Uuid,
    name: String,
    description: Option<String>,
    category_id: Option<Uuid>,
    duration_minutes: i32,
    base_price: Option<Price>,
}

impl From<Service> for ServiceView {
    fn from(s: Service) -> Self {
        let currency = s.currency;
        Self {
            id: s.id,
            name: s.name,
            description: s.description,
            category_id: s.category_id,
            duration_minutes: s.duration_minutes,
            base_price: s.base_price.map(|amount| Price { amount, currency }),
        }
    }
}

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// From 1.
    page: Option<i64>,
    /// 1 to 100, 20 unless given.
    limit: Option<i64>,
}

impl ListQuery {
    /// The page that is asked for.
    pub fn page(&self) -> PageQuery {
        PageQuery::new(self.page, self.limit)
    }
}

/// The services that practitioners may offer.
#[utoipa::path(get, path = "/v1/services", tag = "catalogue", params(ListQuery),
    responses((status = 200, body = Envelope<Vec<ServiceView>>)))]
pub async fn list(
    catalogue: web::Data<Catalogue>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Reply> {
    let page = query.page().check()?;
    let (rows, total) = catalogue.list(page).await?;
    Reply::page(rows.into_iter().map(ServiceView::from).collect::<Vec<_>>(), page, total)
}

/// A new service of the catalogue.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewService {
    name: String,
    description: Option<String>,
    category_id: Option<Uuid>,
    /// 1 to 1440.
    duration_minutes: i32,
    base_price: Option<Price>,
}

/// Adds a service to the catalogue; administrators only.
#[utoipa::path(post, path = "/v1/services", tag = "catalogue", request_body = NewService,
    responses((status = 201, body = Envelope<ServiceView>)), security(("bearer" = [])))]
pub async fn create(catalogue: web::Data<Catalogue>, once: Once<NewService>) -> ApiResult<Reply> {
    once.run(|caller, new| async move {
        let currency = new.base_price.as_ref().map_or("INR".to_owned(), |p| p.currency.clone());
        let service = Service {
            id: Uuid::nil(),
            name: new.name,
            description: new.description,
            category_id: new.category_id,
            duration_minutes: new.duration_minutes,
            base_price: new.base_price.map(|p| p.amount),
            currency,
        };
        Reply::created(ServiceView::from(catalogue.add(&caller, service).await?))
    })
    .await
}
