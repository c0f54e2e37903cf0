"""What every service needs to run, whatever it does: settings, database, migrations, web, logs, metrics, two listeners."""
