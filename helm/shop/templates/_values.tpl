{{/*
A value as text. A number in a values file is a float to helm, and a large one would be written as 1e+06; --set gives an integer.
Both must render alike, and exactly: use this wherever a value that may be a number lands.
*/}}
{{- define "shop.text" -}}
{{- if kindIs "float64" . -}}
{{- if or (gt . 9007199254740991.0) (lt . -9007199254740991.0) -}}
{{- fail (printf "a number in a values file is exact up to 9007199254740991: write %.0f in quotes" .) -}}
{{- end -}}
{{ toJson . }}
{{- else -}}
{{ toString . }}
{{- end -}}
{{- end }}

{{/* The same for a setting of PostgreSQL: a values file turns off into false, and --set does not. */}}
{{- define "shop.setting" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else }}{{ include "shop.text" . }}{{ end -}}
{{- end }}

{{/* Requests and limits: a quantity may be a number too. */}}
{{- define "shop.resources" -}}
{{- range $what, $quantities := . }}
{{ $what }}:
  {{- range $name, $quantity := $quantities }}
  {{ $name }}: {{ include "shop.text" $quantity | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A quantity in bytes, to compare what is written differently: 1Gi is 1024Mi. */}}
{{- define "shop.bytes" -}}
{{- $text := include "shop.text" . -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- printf "%.0f" (mulf (regexFind "^[0-9.]+" $text) (get $factors (regexFind "[A-Za-z]*$" $text))) -}}
{{- end }}

{{- define "shop.config" -}}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ include "shop.text" $value | quote }}
{{- end }}
{{- end }}
