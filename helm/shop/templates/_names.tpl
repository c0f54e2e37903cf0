{{/* Names are fixed, not derived from the release: Ingress, keys and service-postgresql are a contract, one shop a namespace. */}}

{{- define "shop.labels" -}}
{{ include "shop.selector" . }}
app.kubernetes.io/part-of: shop
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* What a workload is found by; it can never be changed, so it holds nothing that a release may change. */}}
{{- define "shop.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/*
The coordinator, called order, and the participants: all other services. The first three stand as they always did, the rest by
name: another order would be another pod of the database, and an upgrade would restart it for nothing.
*/}}
{{- define "shop.services" -}}
order {{ include "shop.participants" . }}
{{- end }}

{{- define "shop.participants" -}}
{{- $first := list "payment" "stock" "delivery" }}
{{- $found := list }}
{{- range concat $first (without (keys .Values.services | sortAlpha) "order" "payment" "stock" "delivery") }}
{{- if hasKey $.Values.services . }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- join " " $found }}
{{- end }}

{{/* Which paths lead to which service: a list of {path, service}, as YAML. */}}
{{- define "shop.routes" -}}
{{- range splitList " " (include "shop.participants" .) }}
- {path: /{{ . }}, service: {{ . }}-service}
{{- end }}
{{- range list "/orders" "/transactions" "/" }}
- {path: {{ . }}, service: order-service}
{{- end }}
{{- end }}

{{- define "shop.image" -}}
{{- $service := index .root.Values.services .short -}}
{{- $repository := printf "%s/%s-service" .root.Values.image.repository .short -}}
{{- if $service.digest -}}
{{ $repository }}@{{ $service.digest }}
{{- else -}}
{{ $repository }}:{{ include "shop.text" (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "shop.postgresImage" -}}
{{- with .Values.postgresql.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ include "shop.text" .tag }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "shop.secretName" -}}
{{ .Values.secrets.existingSecret | default "shop-secrets" }}
{{- end }}

{{- define "shop.databaseHost" -}}
{{- $service := index .root.Values.services .short -}}
{{ $service.databaseHost | default .root.Values.database.externalHost | default "service-postgresql" }}
{{- end }}

{{/* The value of each key of the Secret goes by its name; `database` is the role's password, the others are shared keys. */}}
{{- define "shop.secretKeys" -}}
postgres-password
{{- range splitList " " (include "shop.services" .) }} {{ . }}-service-password{{ end }}
{{- range splitList " " (include "shop.participants" .) }} {{ . }}-key{{ end }}
{{- end }}
