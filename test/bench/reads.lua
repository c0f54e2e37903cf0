-- Gets the paths of a file, one a line, in any order. When the run ends, one line of JSON tells what wrk has counted.
local paths = {}

function init(arguments)
    for path in io.lines(arguments[1]) do
        table.insert(paths, path)
    end
    math.randomseed(os.time())
end

function request()
    return wrk.format("GET", paths[math.random(#paths)])
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'counted {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"refused":%d,"lost":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(90) / 1000,
        latency:percentile(99) / 1000, latency.max / 1000, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout
    ))
end
