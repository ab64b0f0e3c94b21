job "app" {
  datacenters = ["dc1"]

  group "app" {
    count = 3

    network {
      mode = "bridge"
      port "http" {}
    }

    update {
      max_parallel     = 1
      health_check     = "task_states"  # the catalog's checks are pilotfish's own
      min_healthy_time = "10s"
    }

    # pilotfish restarts the application; Nomad, what pilotfish gave up.
    restart {
      attempts = 3
      interval = "10m"
      delay    = "5s"
      mode     = "delay"
    }

    task "app" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"              # more than `[stop] within`; at most the client's max_kill_timeout, 30s

      config {
        image = "registry.example/app:1" # its ENTRYPOINT is ["pilotfish"]
        args  = ["-c", "/local/pilotfish.toml"]
        init  = false                   # pilotfish is PID 1
        ports = ["http"]
      }

      env {
        CONSUL = "${attr.unique.network.ip-address}"
      }

      # Nomad's own marks are moved away: {{ and [[ are pilotfish's and TOML's.
      template {
        data            = file("pilotfish.toml")
        destination     = "local/pilotfish.toml"
        left_delimiter  = "<%"
        right_delimiter = "%>"
        change_mode     = "signal"
        change_signal   = "SIGHUP"
      }

      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
