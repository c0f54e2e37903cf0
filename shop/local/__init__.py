"""The shop on one machine: PostgreSQL, the services, the gateway, and who watches over them."""
