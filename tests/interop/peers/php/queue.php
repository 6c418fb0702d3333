<?php
// One background job; prints its handle.
// php queue.php SERVERS FUNCTION [priority=high|low] [unique=U] < WORKLOAD
[, $servers, $function] = $argv;
parse_str(implode("&", array_slice($argv, 3)), $options);
$client = new GearmanClient();
$client->addServers($servers);
$do = "do" . ucfirst($options["priority"] ?? "") . "Background";
echo $client->$do($function, stream_get_contents(STDIN), $options["unique"] ?? null) . "\n";
exit($client->returnCode());
