"""What every service needs to run, whatever it does.

Settings, database, migrations, web, logs, metrics, two listeners.
"""
