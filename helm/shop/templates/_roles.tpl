{{/* The script that makes the database's roles and schemas. */}}
{{- define "shop.roles" -}}
{{- $services := splitList " " (include "shop.services" .) -}}
-- Run once, when the database is made: a role and a schema for each service, so that none can read or write another's rows.
\set ON_ERROR_STOP on
{{- range $services }}
\getenv {{ . }}_password {{ upper . }}_SERVICE_PASSWORD
{{- end }}
{{ range $services }}
CREATE ROLE {{ . }}_service LOGIN PASSWORD :'{{ . }}_password';
{{- end }}
{{ range $services }}
CREATE SCHEMA {{ . }}_service AUTHORIZATION {{ . }}_service;
{{- end }}
{{- end }}
