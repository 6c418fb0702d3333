<?php
// The tutorial's worker: it turns a text around.
$worker = new GearmanWorker();
if (!getenv("GEARMAN_SERVERS")) {    // which libgearman reads itself
    $worker->addServer();
}
$worker->addFunction("reverse", function (GearmanJob $job) {
    echo "reverse: ", $job->handle(), "\n";
    return strrev($job->workload());
});
while ($worker->work());
