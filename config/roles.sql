-- The same script alone, for compose.yaml and for a database of your own. Rendered from helm/shop by `make manifests`: change the chart, not this file.
-- Run once, when the database is made: a role and a schema for each service, so that none can read or write another's rows.
\set ON_ERROR_STOP on
\getenv order_password ORDER_SERVICE_PASSWORD
\getenv payment_password PAYMENT_SERVICE_PASSWORD
\getenv stock_password STOCK_SERVICE_PASSWORD
\getenv delivery_password DELIVERY_SERVICE_PASSWORD

CREATE ROLE order_service LOGIN PASSWORD :'order_password';
CREATE ROLE payment_service LOGIN PASSWORD :'payment_password';
CREATE ROLE stock_service LOGIN PASSWORD :'stock_password';
CREATE ROLE delivery_service LOGIN PASSWORD :'delivery_password';

CREATE SCHEMA order_service AUTHORIZATION order_service;
CREATE SCHEMA payment_service AUTHORIZATION payment_service;
CREATE SCHEMA stock_service AUTHORIZATION stock_service;
CREATE SCHEMA delivery_service AUTHORIZATION delivery_service;
