<?php
// The tutorial's worker: php worker.php HOST PORT. `lines` is what it does by hand with wc.
$worker = new GearmanWorker();
$worker->addServer($argv[1], (int) $argv[2]);
$worker->addFunction("php_reverse", function (GearmanJob $job) {
    return strrev($job->workload());
});
$worker->addFunction("php_wc", function (GearmanJob $job) {
    return substr_count($job->workload(), "\n") . "\n";
});
while ($worker->work());
