{{/* What all pods have alike: the restricted security level, no token, and where they may run. */}}

{{- define "shop.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
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
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
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

{{/* A service's way to its schema: the password comes from the Secret, and Kubernetes puts it into the address. */}}
{{- define "shop.databaseEnv" -}}
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root }}
      key: {{ .short }}-service-password
- name: DATABASE_URL
  value: postgresql+psycopg2://{{ .short }}_service:$(DATABASE_PASSWORD)@{{ include "shop.databaseHost" . }}:{{ .root.Values.database.port }}/{{ .root.Values.database.name }}{{ with .root.Values.database.sslmode }}?sslmode={{ . }}{{ end }}
{{- end }}

{{- define "shop.keyEnv" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "shop.secretName" .root }}
      key: {{ .key }}
{{- end }}
