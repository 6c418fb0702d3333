<?php
// A client that has one job after the other done until its input ends: php load.php FUNCTION
// WORKLOAD PAUSE. It prints of each when it began and ended (seconds of the monotonic clock), its
// handle, and its answer in base64.
[, $function, $workload, $pause] = $argv;
$done = null;
$client = new GearmanClient();
$client->setCompleteCallback(function (GearmanTask $task) use (&$done) {
    $done = $task->jobHandle() . " " . base64_encode($task->data());
});
do {
    $done = null;
    $began = hrtime(true);
    $client->addTask($function, $workload);
    $client->runTasks();
    if ($done === null) {
        fwrite(STDERR, $client->error() . "\n");
        exit(1);
    }
    printf("%.9f %.9f %s\n", $began / 1e9, hrtime(true) / 1e9, $done);
    $input = [STDIN];
    $none = null;
} while (!stream_select($input, $none, $none, 0, (int) ($pause * 1e6)));
