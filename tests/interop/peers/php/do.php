<?php
// One foreground job, and all that is heard of it, an event a line.
// php do.php SERVERS FUNCTION [priority=high|low] [unique=U] [timeout=MS] < WORKLOAD
[, $servers, $function] = $argv;
parse_str(implode("&", array_slice($argv, 3)), $options);
$say = fn(string $event) => print("$event\n");

$client = new GearmanClient();
$client->addServers($servers);
$client->setTimeout((int) ($options["timeout"] ?? -1));
$client->setCreatedCallback(fn($task) => $say("created " . $task->jobHandle()) && false);
$client->setDataCallback(fn($task) => $say("data " . $task->data()) && false);
$client->setWarningCallback(fn($task) => $say("warning " . $task->data()) && false);
$client->setStatusCallback(
    fn($task) => $say("status {$task->taskNumerator()}/{$task->taskDenominator()}") && false
);
$client->setCompleteCallback(fn($task) => $say("complete " . $task->data()) && false);
$client->setFailCallback(fn($task) => $say("fail") && false);
$client->setExceptionCallback(fn($task) => $say("exception " . $task->data()) && false);
$add = "addTask" . ucfirst($options["priority"] ?? "");
$client->$add($function, stream_get_contents(STDIN), null, $options["unique"] ?? null);
if (!$client->runTasks() && $client->returnCode() == GEARMAN_TIMEOUT) {
    $say("timeout");
}
