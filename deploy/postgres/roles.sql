-- The database of batchd and its two roles, neither a superuser. Run once by psql, as a superuser:
--   DATABASE_OWNER_PASSWORD=… DATABASE_PASSWORD=… psql --dbname=postgres --file=roles.sql
-- The owner runs `batchd migrate`; the API and the workers, whose rights are to read and write rows, use the user.
\set ON_ERROR_STOP on
\set database batchd
\set owner batchd_owner
\set user batchd
\getenv database DATABASE_NAME
\getenv owner DATABASE_OWNER
\getenv user DATABASE_USER
\getenv owner_password DATABASE_OWNER_PASSWORD
\getenv password DATABASE_PASSWORD

CREATE ROLE :"owner" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE :"user" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"owner" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"user";

\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"user";
-- For what the owner creates from now on: every migration, this version's and later ones'.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"user";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE ON SEQUENCES TO :"user";
