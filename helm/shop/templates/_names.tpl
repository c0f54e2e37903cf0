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
postgres-password order-service-password payment-service-password stock-service-password delivery-service-password payment-key stock-key delivery-key
{{- end }}
