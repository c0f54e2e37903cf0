{{/* What all pods have alike: the restricted security level, no token, and where they may run. No user: the cluster chooses one. */}}

{{- define "shop.podSecurity" -}}
runAsNonRoot: true
{{- with . }}
runAsUser: {{ include "shop.text" . }}
runAsGroup: {{ include "shop.text" . }}
fsGroup: {{ include "shop.text" . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "shop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "shop.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A service's way to its schema. The password goes beside the address: in it, an @ or a / would have to be escaped. */}}
{{- define "shop.databaseEnv" -}}
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root | quote }}
      key: {{ .short }}-service-password
- name: DATABASE_URL
  value: {{ include "shop.databaseUrl" . | quote }}
{{- end }}

{{- define "shop.databaseUrl" -}}
{{- $host := include "shop.databaseHost" . -}}
{{- with .root.Values.database -}}
postgresql+psycopg2://{{ $.short }}_service@{{ if contains ":" $host }}[{{ $host }}]{{ else }}{{ $host }}{{ end }}:{{ include "shop.text" .port }}/{{ .name }}
{{- with .sslmode }}?sslmode={{ . }}{{ end }}
{{- if include "shop.databaseCa" $.root }}&sslrootcert={{ include "shop.databaseCaFolder" $.root }}/ca.crt{{ end }}
{{- end -}}
{{- end }}

{{/* The certificate by which the database server's own is checked: the volume, nothing if there is none. */}}
{{- define "shop.databaseCa" -}}
{{- with .Values.database.ca }}
{{- if .secret }}
secret:
  secretName: {{ .secret | quote }}
{{- else if .configMap }}
configMap:
  name: {{ .configMap | quote }}
{{- end }}
{{- if or .secret .configMap }}
  items:
    - key: {{ .key | quote }}
      path: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "shop.databaseCaFolder" -}}
/etc/shop/database
{{- end }}

{{/* What services and migrations mount. */}}
{{- define "shop.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "shop.databaseCa" . }}
- name: database-ca
  mountPath: {{ include "shop.databaseCaFolder" . }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "shop.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with include "shop.databaseCa" . }}
- name: database-ca
  {{- . | trim | nindent 2 }}
{{- end }}
{{- end }}

{{/* Whom order_service asks: JSON, with the files of the keys that are mounted beside. */}}
{{- define "shop.participantsSetting" -}}
{{- $lines := list }}
{{- range splitList " " (include "shop.participants" .) }}
{{- $lines = append $lines (printf "  %q: {\"urls\": \"http://%s-service-internal:8001\", \"key_file\": \"%s/%s-key\"}" . . (include "shop.keysFolder" $) .) }}
{{- end }}
{
{{ join ",\n" $lines }}
}
{{- end }}

{{- define "shop.keysFolder" -}}
/etc/shop/keys
{{- end }}

{{- define "shop.keyEnv" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root | quote }}
      key: {{ .key }}
{{- end }}
