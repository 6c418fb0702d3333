<?php
// Many jobs in flight at once, their workloads 1, 2, 3 ...; prints each "workload result".
// php many.php SERVERS FUNCTION COUNT
[, $servers, $function, $count] = $argv;
$client = new GearmanClient();
$client->addServers($servers);
$client->setCompleteCallback(function (GearmanTask $task, int $number) {
    echo "$number {$task->data()}\n";
});
for ($number = 1; $number <= $count; $number++) {
    $client->addTask($function, (string) $number, $number);
}
exit($client->runTasks() ? 0 : 1);
