"""How a PostgreSQL database comes to the tables of `schema`, step by step, by Alembic."""
